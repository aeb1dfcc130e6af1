"""VERSION URL [BODY]: with aiohttp, which asks for no proxy unless it is told to."""
import asyncio
import sys
import aiohttp


async def main(url, body=None):
    data = open(body, "rb").read() if body else None
    async with aiohttp.ClientSession() as session:
        async with session.request("POST" if body else "GET", url, data=data) as response:
            print(f"HTTP/{response.version.major}.{response.version.minor}")
            print(await response.text())


asyncio.run(main(*sys.argv[2:]))
