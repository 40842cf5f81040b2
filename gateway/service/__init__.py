"""What runs behind ``roundhouse up``: parts of an installation, started in order, kept alive, ended without trace."""
