#: The version of all of corpusmill; pyproject.toml reads it here.
__version__ = "0.1.0"


class MillError(ValueError):
    """What a user can put right: the message names the file, record or field and the remedy, and is shown alone.

    The root of every error that corpusmill raises on purpose. Any other exception is a fault and keeps its traceback.
    It is a ValueError so that pydantic reports it with the field it was raised for.
    """
