"""HTTP gateway: discovery of the services, the REST API, WebDAV and the web app, and contents for clients that cannot
reach S3.
"""

from runtime.imports import absent, uncollected

# FastAPI imports these if they are installed: restarts for development, another kind of threads, and checks of e-mail
# addresses, which are left to auth.
with uncollected(), absent("watchfiles", "greenlet", "email_validator"):
    import fastapi as fastapi
    import uvicorn as uvicorn

    from gateway.http import adapters as adapters
