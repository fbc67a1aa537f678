"""Who types: the account that the trail names."""


def account(by: str | None = None) -> str:
    """Give the account that was named, else the system's."""
    if by is not None:
        return by
    import getpass

    return getpass.getuser()
