"""HTTP over requests and over aiohttp, and the connections that LMs share."""
