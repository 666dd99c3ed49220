"""Speed of the library against its limits and its peers."""
