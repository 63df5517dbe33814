"""TLS: what cannot be trusted is never tried again, what was cut short is."""

import asyncio
import datetime
import ssl

import pytest
import trustme
from rawserver import KEY, OK, RawServer, answer

from hinow_async import APIConnectionError, AsyncHinow, Network, RetryPolicy

QUICK = RetryPolicy(wait_initial=0)


@pytest.fixture(scope="module")
def authority():
    return trustme.CA()


def serving(authority, name="127.0.0.1", **options):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name, **options).configure_cert(context)
    return context


def trusting(authority):
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return Network(ssl=context)


async def fail(server, **options):
    async with AsyncHinow(api_key=KEY, base_url=server.base_url, retry=QUICK, **options) as client:
        with pytest.raises(APIConnectionError) as caught:
            await client.images.generate("A lighthouse")
    return caught.value


async def test_a_context_of_the_callers_own_is_used(authority):
    """A company's authority is trusted when the caller says so."""
    async with (
        RawServer(answer(OK), tls=serving(authority)) as server,
        AsyncHinow(api_key=KEY, base_url=server.base_url, network=trusting(authority)) as client,
    ):
        assert (await client.images.generate("A lighthouse")).images


async def test_an_authority_that_is_not_trusted_is_final(authority):
    """One try, not sent, and the message names host and reason."""
    async with RawServer(answer(OK), tls=serving(authority)) as server:
        error = await fail(server)

    assert (error.outcome, error.call.attempts, server.requests) == ("not_sent", 1, [])
    assert "127.0.0.1" in str(error)
    assert "certificate" in str(error)


async def test_a_wrong_name_is_final(authority):
    """The certificate of another host is no certificate."""
    async with RawServer(answer(OK), tls=serving(authority, "other.example.com")) as server:
        error = await fail(server, network=trusting(authority))

    assert (error.outcome, error.call.attempts) == ("not_sent", 1)
    assert "127.0.0.1" in str(error)


async def test_an_expired_certificate_is_final(authority):
    """Waiting does not mend it."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    async with RawServer(answer(OK), tls=serving(authority, not_after=past)) as server:
        error = await fail(server, network=trusting(authority))

    assert (error.outcome, error.call.attempts) == ("not_sent", 1)
    assert "expired" in str(error)


class PlainServer(RawServer):
    @property
    def base_url(self):
        return f"https://127.0.0.1:{self.port}/v1"


async def test_plain_http_where_tls_was_expected_is_final():
    """A server that knows no TLS will not learn it."""

    async def plain(talk):
        await talk.reader.read(100)
        await talk.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")

    async with PlainServer(plain) as server:
        error = await fail(server)

    assert (error.outcome, error.call.attempts) == ("not_sent", 1)


async def cut_by_fin(talk):
    await talk.reader.read(100)


async def cut_by_rst(talk):
    await talk.reader.read(100)
    talk.reset()


async def cut_after_a_piece(talk):
    await talk.reader.read(100)
    await talk.send(b"\x16\x03\x03\x00\x7a\x02\x00")


@pytest.mark.parametrize("cut", [cut_by_fin, cut_by_rst, cut_after_a_piece])
async def test_a_handshake_that_is_cut_is_tried_again(cut):
    """Nothing was sent yet."""
    async with PlainServer(cut) as server:
        error = await fail(server)

    assert (error.outcome, error.call.attempts, server.connections) == ("not_sent", 4, 4)


async def test_a_request_over_tls_that_is_reset_is_unknown(authority):
    """TLS hides nothing: it was sent."""

    async def reset(talk):
        await talk.request()
        talk.reset()

    async with RawServer(reset, tls=serving(authority)) as server:
        error = await fail(server, network=trusting(authority))

    assert (error.outcome, error.call.attempts) == ("unknown", 1)
    await asyncio.sleep(0)
