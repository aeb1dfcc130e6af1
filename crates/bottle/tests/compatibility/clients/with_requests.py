"""VERSION URL [BODY]: with requests."""
import sys
import requests

_, _, url, *body = sys.argv
data = open(body[0], "rb").read() if body else None
response = requests.post(url, data=data) if body else requests.get(url)
print(f"HTTP/{response.raw.version // 10}.{response.raw.version % 10}")
print(response.text)
