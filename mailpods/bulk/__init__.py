"""What mass mailing needs beside the usual: who gets no more of it, limits, what comes back."""
