"""The token that the Hub's own client has stored on this machine."""

from pi_cli.errors import PiError


def stored() -> str | None:
    """Return the token of `hf auth login`, found and refreshed as the Hub's client does it; None if there is none.

    That is, from HUGGING_FACE_HUB_TOKEN, or from the file `token` in HF_TOKEN_PATH, HF_HOME or XDG_CACHE_HOME. Of
    several stored tokens it is the one chosen with `hf auth switch`. The client may ask the Hub, to refresh a token.
    """
    import httpx2
    from huggingface_hub import constants, get_token
    from huggingface_hub.errors import HfHubHTTPError, OIDCError

    if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN:  # the user's word that only a token that is given is sent
        return None
    try:
        return get_token()
    except (OSError, ValueError, LookupError, RuntimeError, httpx2.HTTPError, HfHubHTTPError, OIDCError) as error:
        match error:
            case UnicodeError():
                reason = "it is not a text"
            case OIDCError() | OSError():
                reason = getattr(error, "strerror", None) or str(error)
            case _:
                reason = f"{type(error).__name__}: {error}"
        raise PiError(
            f"cannot read the token of `hf auth login`: {reason}",
            hint=f"repair or remove `{constants.HF_TOKEN_PATH}`, or `export HF_TOKEN=…`",
        ) from error
