"""HTTP: where everything is, and the way to contents for clients that cannot reach S3."""

from runtime.imports import absent

# FastAPI would import these if they are installed: restarts for development, another kind of threads, and checks of
# addresses, which are auth's.
with absent("watchfiles", "greenlet", "email_validator"):
    import fastapi as fastapi
    import uvicorn as uvicorn
