"""What DNS says: mail servers of domains, their addresses and TLSA records, names of clients.

Nobody else asks it.
"""
