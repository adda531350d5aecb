"""The one exception that means "the input is wrong", as opposed to "the code is wrong"."""


class C2CError(ValueError):
    """Bad input; its text is one sentence that says what is wrong and what to do."""
