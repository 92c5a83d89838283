"""The one error that a user sees without a traceback."""


class HarnessError(Exception):
    """Bad input or a broken artefact. The message names the file, the field, the value and the fix."""
