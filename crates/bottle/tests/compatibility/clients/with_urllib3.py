"""VERSION URL [BODY]: with urllib3, which knows no proxy by itself."""
import sys
import urllib3

_, _, url, *body = sys.argv
data = open(body[0], "rb").read() if body else None
response = urllib3.PoolManager().request("POST" if body else "GET", url, body=data)
print(f"HTTP/{response.version // 10}.{response.version % 10}")
print(response.data.decode())
