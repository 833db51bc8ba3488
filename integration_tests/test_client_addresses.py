"""How the clients are told where the server is: base URLs, the wrong door, nobody there, https with its certificates."""

import json
import ssl
import subprocess

import pytest
from fake_openai import FakeOpenAI
from harness import free_port, run

COMMANDS = [("generate", "hello"), ("chat",)]


def certificate(folder, name, *extensions):
    """a key and a certificate of a day for 127.0.0.1 unless the extensions say otherwise -> its PEM file, key included"""
    pem, key, made = folder / f"{name}.pem", folder / f"{name}.key", folder / f"{name}.crt"
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    command += ["-subj", f"/CN={name}", "-keyout", str(key), "-out", str(made)]
    for extension in extensions:
        command += ["-addext", extension]
    subprocess.run(command, check=True, capture_output=True)
    pem.write_text(made.read_text() + key.read_text())
    return pem


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "self", "subjectAltName=IP:127.0.0.1,DNS:localhost")
    certificate(folder, "other", "subjectAltName=DNS:other.example")
    return folder


def https(pem):
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return FakeOpenAI(tls=context)


@pytest.mark.parametrize("suffix", ["", "/", "//", "/v1", "/v1/"])
def test_a_base_url_may_end_in_v1(suffix):
    with FakeOpenAI() as fake:
        r = run("chat", "--rest", fake.url + suffix, stdin="hello\n")
        assert r.returncode == 0 and r.stdout == "1:hello\n", r
        r = run("bench", "serve", "--url", fake.url + suffix, "--requests", "2", "--json")
        assert r.returncode == 0 and json.loads(r.stdout)["succeeded"] == 2, r


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_no_server_at_the_address_is_told(command):
    address = f"127.0.0.1:{free_port()}"
    for flags in (["--grpc", address], ["--rest", f"http://{address}"]):
        r = run(command[0], *flags, *command[1:], stdin="hello\n")
        assert r.returncode == 1 and f"{address}: connection refused; is pangea serve running?" in r.stderr and r.stdout == "", r
    r = run("bench", "serve", "--url", f"http://{address}")
    assert r.returncode == 1 and "is pangea serve running?" in r.stderr, r


@pytest.mark.parametrize("command", COMMANDS, ids=lambda c: c[0])
def test_the_other_door_s_port(stories, command):
    address = f"{stories.host}:{stories.port}"
    r = run(command[0], "--grpc", address, *command[1:], stdin="hello\n")
    assert r.returncode == 1 and f"write --rest http://{address}" in r.stderr, r
    r = run(command[0], "--rest", f"http://{stories.grpc}", *command[1:], stdin="hello\n")
    assert r.returncode == 1 and f"chat and generate take --grpc {stories.grpc}" in r.stderr, r
    r = run(command[0], "--rest", f"https://{address}", *command[1:], stdin="hello\n")
    assert r.returncode == 1 and "speaks no TLS" in r.stderr, r


def test_a_grpc_address_is_no_url():
    r = run("chat", "--grpc", "http://127.0.0.1:8001/", stdin="hello\n")
    assert r.returncode == 64 and "write --grpc 127.0.0.1:8001" in r.stderr, r
    r = run("generate", "--grpc", "localhost", "hello")
    assert r.returncode == 64 and "expected HOST:PORT" in r.stderr, r
    r = run("generate", "--grpc", "no.such.host.invalid:8001", "hello")
    assert r.returncode == 1 and "no such host" in r.stderr, r


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_https(files, host):
    with https(files / "self.pem") as fake:
        url = fake.url.replace("127.0.0.1", host)
        trust = ["--ca-file", files / "self.crt"]
        r = run("chat", "--rest", url + "/v1", *trust, stdin="hello\nthere\n")
        assert r.returncode == 0 and r.stdout == "1:hello\n3:there\n", r
        r = run("generate", "--rest", url, *trust, "--no-stream", "hello")
        assert r.returncode == 0 and r.stdout == "0:hello\n", r
        r = run("bench", "serve", "--url", url, *trust, "--requests", "5", "--concurrency", "2", "--json")
        assert r.returncode == 0 and json.loads(r.stdout)["succeeded"] == 5, r
        r = run("chat", "--rest", url, stdin="hello\n", env={"SSL_CERT_FILE": str(files / "self.crt")})
        assert r.returncode == 0 and r.stdout == "1:hello\n", r


def test_https_trusts_nobody_unasked(files):
    with https(files / "self.pem") as fake:
        for command in (["chat", "--rest"], ["generate", "hello", "--rest"], ["bench", "serve", "--url"]):
            r = run(*command, fake.url, stdin="hello\n")
            assert r.returncode == 1 and "self-signed certificate; --ca-file FILE names an authority to trust" in r.stderr, r
        assert not fake.bodies
        r = run("chat", "--rest", fake.url, "--ca-file", files / "other.crt", stdin="hello\n")
        assert r.returncode == 1 and "certificate is refused" in r.stderr, r
        r = run("chat", "--rest", fake.url, "--ca-file", "/dev/null", stdin="hello\n")
        assert r.returncode == 1 and "cannot read certificates (PEM) from /dev/null" in r.stderr, r
        r = run("chat", "--rest", fake.url.replace("https", "http"), stdin="hello\n")
        assert r.returncode == 1 and r.stdout == "", r
        assert run("chat", "--grpc", fake.address, "--ca-file", files / "self.crt").returncode == 64


def test_https_is_for_the_host_that_was_asked_for(files):
    with https(files / "other.pem") as fake:
        for host, said in (("127.0.0.1", "IP address mismatch"), ("localhost", "hostname mismatch")):
            r = run("chat", "--rest", fake.url.replace("127.0.0.1", host), "--ca-file", files / "other.crt", stdin="hello\n")
            assert r.returncode == 1 and said in r.stderr and not fake.bodies, r
