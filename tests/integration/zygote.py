"""A process that has imported everything and forks a downloader for each line it reads, so that killing
hundreds of them costs no hundreds of imports.

A line is JSON: the folder, the URLs, the seconds between state files. It answers with the child's pid, and
with "ended" once that is gone.
"""

import asyncio
import json
import os
import sys
from pathlib import Path

from hinow_async._download import Downloader, part
from hinow_async._models.images import GeneratedImage
from hinow_async._options import DownloadPolicy, Network, Timeouts
from hinow_async._pool import Pool
from hinow_async._protocol.urls import origin_of


async def save(job):
    """Save each URL under the name a-<its number>."""
    part.CHECKPOINT = job["checkpoint"]
    pool = Pool([], Network(), Timeouts())
    await pool.enter()
    downloader = Downloader(pool, DownloadPolicy(timeout=20), 10, pause=lambda tries: 0.0)
    folder, urls = Path(job["folder"]), job["urls"]
    exempt = frozenset({origin_of(urls[0])})
    images = [GeneratedImage(url, index=index) for index, url in enumerate(urls)]
    await asyncio.gather(*(downloader.save(image, folder, "a", exempt=exempt) for image in images))
    await pool.aclose()


def main():
    """Fork, tell, wait, again."""
    for line in sys.stdin:
        pid = os.fork()
        if not pid:
            asyncio.run(save(json.loads(line)))
            os._exit(0)
        sys.stdout.write(f"{pid}\n")
        sys.stdout.flush()
        os.waitpid(pid, 0)
        sys.stdout.write("ended\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
