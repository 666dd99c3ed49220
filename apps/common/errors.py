"""The one exception for mistakes that the user can mend."""


class UserError(Exception):
    """One sentence that names the file (or option) and the mend.

    The command line prints it as `error: <sentence>` on stderr and exits with code 2.
    """
