"""VERSION URL [BODY]: with urllib of the standard library."""
import sys
import urllib.error
import urllib.request

_, _, url, *body = sys.argv
data = open(body[0], "rb").read() if body else None
try:
    response = urllib.request.urlopen(urllib.request.Request(url, data))
except urllib.error.HTTPError as error:
    response = error
print(response.read().decode())
