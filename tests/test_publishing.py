"""A finished run for others: its card, and the way to a Hub and back, against a stand-in of the Hub's HTTP API."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
import yaml
from PIL import Image

import limbeck
from limbeck.architectures.stylegan2 import Generator
from limbeck.cli import main
from limbeck.errors import UserError
from limbeck.publishing import without_paths

TERMS = "CC-BY-4.0: credit the artist"
SHA = "c" * 40


def make_run(folder, terms=TERMS):
    generator = Generator(resolution=8, widths=[4, 4, 6, 6], z_dim=8, w_dim=8, mapping_depth=1)
    model = limbeck.Model(generator, terms=terms).after("import", file="/home/me/secret/ffhq.pkl")
    limbeck.save(model, folder / "student.safetensors")
    (folder / "samples").mkdir()
    Image.new("RGB", (4, 4)).save(folder / "samples" / "student.png")
    row = {"name": "student", "num_parameters": 1234, "macs": 5_000_000, "size_mib": 0.5, "latency_ms": 1.5}
    report = {
        "rows": [{**row, "metrics": {"kid_lite0": 0.25}}],
        "protocol": {"num_images": 50},
        "config": {"data": {"path": "/home/me/secret/photos"}},
        "versions": {},
    }
    (folder / "report.json").write_text(json.dumps(report))
    return folder


class Hub(BaseHTTPRequestHandler):
    """The calls that publishing and loading make; files are kept in memory."""

    def log_message(self, *words):
        pass

    def do_POST(self):
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size) if size else b""
        self.server.calls.append((self.path, self.headers.get("Authorization")))
        if self.path == "/api/repos/create":
            self.server.created.append(json.loads(body))
            return self.answer(
                {"url": f"{self.server.url}/owner/student", "id": "owner/student", "name": "owner/student"}
            )
        if self.path == "/api/validate-yaml":
            return self.answer({"errors": [], "warnings": []})
        if self.path.endswith("/preupload/main"):
            wanted = json.loads(body)["files"]
            return self.answer(
                {"files": [{"path": f["path"], "uploadMode": "regular", "shouldIgnore": False} for f in wanted]}
            )
        if self.path.endswith("/commit/main"):
            for line in body.splitlines():
                entry = json.loads(line)
                if entry["key"] == "file":
                    self.server.files[entry["value"]["path"]] = base64.b64decode(entry["value"]["content"])
            return self.answer({"commitUrl": f"{self.server.url}/owner/student/commit/{SHA}", "commitOid": SHA})
        return self.answer({"error": "no such call"}, 404)

    def do_GET(self, head=False):
        self.server.calls.append((self.path, self.headers.get("Authorization")))
        path = self.path.partition("?")[0]
        if path.startswith("/api/models/owner/student"):
            siblings = [{"rfilename": name, "size": len(value)} for name, value in self.server.files.items()]
            tree = [
                {"type": "file", "path": name, "size": len(value), "oid": hashlib.sha1(value).hexdigest()}
                for name, value in self.server.files.items()
            ]
            if "/tree/" in path:
                return self.answer(tree)
            return self.answer({"id": "owner/student", "sha": SHA, "private": True, "tags": [], "siblings": siblings})
        prefix = f"/owner/student/resolve/{SHA}/"
        if path.startswith(prefix) and path.removeprefix(prefix) in self.server.files:
            content = self.server.files[path.removeprefix(prefix)]
            return self.answer(content, head=head)
        return self.answer({"error": "Repository not found"}, 404)

    def do_HEAD(self):
        self.do_GET(head=True)

    def answer(self, content, status=200, head=False):
        body = content if isinstance(content, bytes) else json.dumps(content).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("ETag", '"' + hashlib.sha1(body).hexdigest() + '"')
        self.send_header("X-Repo-Commit", SHA)
        if status == 404:
            self.send_header("X-Error-Code", "RepoNotFound")
        self.end_headers()
        if not head:
            self.wfile.write(body)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Hub)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.files, server.created, server.calls = {}, [], []
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    monkeypatch.setenv("HF_TOKEN", "hf_test")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_folder_with_its_card(tmp_path, capsys):
    run = make_run(tmp_path)
    main(["publish", str(run), str(tmp_path / "out")])
    assert capsys.readouterr().out == f"published: {tmp_path / 'out'}\n"
    text = (tmp_path / "out" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    assert yaml.safe_load(front)["license"] == "cc-by-4.0"
    for expected in (
        TERMS,
        'limbeck.load("out/model.safetensors")',
        "| student | 1,234 | 5 M | 0.5 | 1.5 | 0.25 |",
        "samples/student.png",
    ):
        assert expected in body
    written = text + (tmp_path / "out" / "report.json").read_text()
    assert "secret" not in written
    assert "ffhq.pkl" in text
    again = limbeck.load(tmp_path / "out" / "model.safetensors")
    assert again.terms == TERMS


def seen_by_all(request):
    """Whether a new repository is public; the library's older and newer words."""
    return request["visibility"] == "public" if "visibility" in request else not request["private"]


def test_to_a_hub_and_back(hub, tmp_path, capsys):
    run = make_run(tmp_path)
    main(["publish", str(run), "hub:owner/student"])
    assert capsys.readouterr().out.strip() == f"published: {hub.url}/owner/student"
    assert seen_by_all(hub.created[0]) is False
    assert set(hub.files) == {"README.md", "model.safetensors", "report.json", "samples/student.png"}
    assert ("/api/repos/create", "Bearer hf_test") in hub.calls
    expected, found = (limbeck.load(path).generator for path in (run / "student.safetensors", "hub:owner/student"))
    pairs = zip(expected.state_dict().values(), found.state_dict().values(), strict=True)
    assert all(torch.equal(one, other) for one, other in pairs)
    main(["publish", str(run), "hub:owner/student", "--public"])
    assert seen_by_all(hub.created[1]) is True


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NOWHERE", "out"], "error: NOWHERE: not a finished run, there is no report.json"),
        (["RUN", "hub:student"], "error: hub:student: must be hub:OWNER/NAME"),
        (["UNSTATED", "out"], "states no terms of its weights; say what they are with --terms TEXT"),
        (["RUN", "RUN"], "exists; name a new or empty folder"),
    ],
)
def test_what_cannot_be_published_is_one_line(tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    for name, terms in (("RUN", TERMS), ("UNSTATED", "")):
        (tmp_path / name).mkdir()
        make_run(tmp_path / name, terms)
    with pytest.raises(SystemExit) as caught:
        main(["publish", *arguments])
    assert caught.value.code == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_without_network(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "cache"))
    with pytest.raises(UserError, match=r"hub:owner/student: cannot be fetched \("):
        limbeck.load("hub:owner/student")
    with pytest.raises(UserError, match="must be hub:OWNER/NAME"):
        limbeck.load("hub:student")
    with pytest.raises(SystemExit) as caught:
        main(["publish", str(make_run(tmp_path)), "hub:owner/student"])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.startswith("error: hub:owner/student: not published (")
    assert said.count("\n") == 1


def test_paths_become_names():
    value = {"a": "/home/me/x.pkl", "b": ["~/photos/", 3], "c": r"C:\data\y.zip", "d": "relative/z.png", "e": "1/2 of"}
    expected = {"a": "x.pkl", "b": ["photos", 3], "c": "y.zip", "d": "relative/z.png", "e": "1/2 of"}
    assert without_paths(value) == expected
