"""The text of a message: header, trace, rewriting of senders, marks, signatures and seals."""
