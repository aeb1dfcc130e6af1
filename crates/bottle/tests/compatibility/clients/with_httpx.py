"""VERSION URL [BODY]: with httpx."""
import sys
import httpx

_, version, url, *body = sys.argv
data = open(body[0], "rb").read() if body else None
with httpx.Client(http2=version == "2") as client:
    response = client.post(url, content=data) if body else client.get(url)
print(response.http_version)
print(response.text)
