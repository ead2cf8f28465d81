"""The transports: HTTP over requests, over aiohttp and in threads, and who shares them."""
