"""`DownloadPolicy.full_decode`: pictures whose frame is whole and whose pixels are not."""

import io
import os

import pytest
from PIL import Image

from hinow_async import AsyncHinow, DownloadPolicy, IntegrityError
from hinow_async._models.images import GeneratedImage
from hinow_async.sandbox import Behaviour, Fault, Sandbox


def encoded(picture_format):
    """A picture of noise, so that damage in the middle hits pixels."""
    file = io.BytesIO()
    Image.frombytes("RGB", (64, 64), os.urandom(64 * 64 * 3)).save(file, picture_format, lossless=True)
    return file.getvalue()


def damaged(data):
    """The same frame and length, other bytes in the middle of the pixels."""
    middle = len(data) // 2
    return data[:middle] + bytes(64) + data[middle + 64 :]


@pytest.fixture
async def clients():
    """A client that decodes and one that does not, and the sandbox."""
    async with Sandbox(Behaviour(picture_size=64)) as sandbox:
        policies = [DownloadPolicy(full_decode=True), DownloadPolicy()]
        made = [
            AsyncHinow(base_url=sandbox.base_url, api_key=sandbox.api_key, downloads=policy)
            for policy in policies
        ]
        yield (*made, sandbox)
        for client in made:
            await client.aclose()


async def test_damaged_pixels_are_found_when_asked_for(clients, tmp_path):
    """The file is not put in place, nothing is left beside it, and without the option it would be."""
    decoding, trusting, sandbox = clients
    body = damaged(encoded("png"))
    sandbox.change(faults=[Fault(path="files", status=200, body=body)])

    result = await decoding.images.generate("A lighthouse")
    with pytest.raises(IntegrityError, match="cannot be decoded"):
        await result.save(tmp_path / "checked")
    with pytest.raises(IntegrityError, match="cannot be decoded"):
        await result.images[0].read()
    assert list((tmp_path / "checked").iterdir()) == []

    plain = await trusting.images.generate("A lighthouse")
    (saved,) = await plain.save(tmp_path / "trusted")
    assert saved.path.read_bytes() == body


async def test_a_png_that_still_decodes_is_judged_by_its_checksums(clients):
    """Of compressed data many a flipped bit gives another picture without an error; a checksum tells."""
    decoding, trusting, _ = clients
    file = io.BytesIO()
    Image.linear_gradient("L").resize((640, 480)).convert("RGB").save(file, "png")
    flipped = next(one for one in _with_one_bit_flipped(file.getvalue()) if _decodes(one))

    with pytest.raises(IntegrityError, match="cannot be decoded"):
        await decoding.images.read(GeneratedImage(data=flipped))
    assert await decoding.images.read(GeneratedImage(data=file.getvalue())) == file.getvalue()
    assert await trusting.images.read(GeneratedImage(data=flipped)) == flipped


def _with_one_bit_flipped(data):
    return (data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(100, len(data) - 20))


def _decodes(data):
    try:
        Image.open(io.BytesIO(data)).load()
    except OSError:
        return False
    return True


@pytest.mark.parametrize("picture_format", ["png", "jpeg", "webp"])
async def test_a_sound_picture_passes(clients, tmp_path, picture_format):
    """From a link and inline, to disk and into memory."""
    decoding, _, _ = clients
    result = await decoding.images.generate("A lighthouse", output_format=picture_format)
    (saved,) = await result.save(tmp_path)

    data = await result.images[0].read()
    assert saved.format == picture_format
    assert saved.path.read_bytes() == data
    assert await decoding.images.read(GeneratedImage(data=data)) == data


async def test_damage_inline_is_found_too(clients):
    """Base64 takes the same way."""
    decoding, trusting, _ = clients
    image = GeneratedImage(data=damaged(encoded("png")))

    with pytest.raises(IntegrityError, match="cannot be decoded"):
        await decoding.images.read(image)
    assert await trusting.images.read(image) == image.data


async def test_a_claim_of_too_many_pixels_is_not_decoded(clients):
    """A header of 100,000 x 100,000 allocates nothing."""
    decoding, _, _ = clients
    data = bytearray(encoded("png"))
    data[16:24] = (100_000).to_bytes(4, "big") * 2

    with pytest.raises(IntegrityError, match="too many"):
        await decoding.images.read(GeneratedImage(data=bytes(data)))
