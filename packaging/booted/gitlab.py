#!/usr/bin/python3
"""Doubles of a GitLab server and of gitlab-runner, as far as a first job needs them, inside a booted host.

gitlab.py serve DIR                       answer as https://gitlab.example.org; makes DIR/ca.pem and the keys first
gitlab.py job DIR CONFIG USER AUD SCRIPT  be gitlab-runner: read its config.toml, and run one job of USER through the programs in it
"""

import base64
import http.server
import json
import os
import pathlib
import ssl
import subprocess
import sys
import tempfile
import time
import tomllib

URL = "https://gitlab.example.org"
FACTS = {"job_id": 7001, "pipeline_id": 501, "project_id": 31, "user_id": 210, "project": "hpc/app", "ref": "main"}


def openssl(*words, stdin=None):
    return subprocess.run(["openssl", *words], input=stdin, check=True, capture_output=True).stdout


def base64url(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def make(place):
    """A certificate authority, a certificate for the server, and a key that signs tokens."""
    place.mkdir(parents=True, exist_ok=True)
    ca, server = str(place / "ca"), str(place / "server")
    openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=site", "-keyout", ca + ".key", "-out", ca + ".pem")
    openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=gitlab", "-keyout", server + ".key", "-out", server + ".csr")
    (place / "ext").write_text("subjectAltName=DNS:gitlab.example.org\nbasicConstraints=CA:FALSE\n")
    openssl("x509", "-req", "-in", server + ".csr", "-CA", ca + ".pem", "-CAkey", ca + ".key", "-CAcreateserial", "-days", "2",
            "-extfile", str(place / "ext"), "-out", server + ".pem")
    openssl("genrsa", "-out", str(place / "sign.key"), "2048")
    # The double of gitlab-runner signs as its own account what GitLab would.
    (place / "sign.key").chmod(0o644)


def serve(place):
    make(place)
    modulus = openssl("rsa", "-in", str(place / "sign.key"), "-noout", "-modulus").decode().strip().split("=")[1]
    key = {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": "first-hour", "n": base64url(bytes.fromhex(modulus)), "e": "AQAB"}
    job = {"id": FACTS["job_id"], "status": "running", "ref": FACTS["ref"], "tag": False,
           "pipeline": {"id": FACTS["pipeline_id"], "project_id": FACTS["project_id"], "ref": FACTS["ref"], "source": "push"}}
    pages = {"/.well-known/openid-configuration": {"issuer": URL, "jwks_uri": URL + "/oauth/discovery/keys"},
             "/oauth/discovery/keys": {"keys": [key]}}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            answer = pages.get(self.path)
            if self.path == "/api/v4/job" and self.headers.get("JOB-TOKEN") == "glcbt-first-hour":
                login = (place / "login").read_text()
                answer = job | {"user": {"id": FACTS["user_id"], "username": login, "state": "active", "bot": False}}
            body = json.dumps(answer or {"message": "401"}).encode()
            self.send_response(200 if answer else 401)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 443), Handler)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(place / "server.pem", place / "server.key")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    (place / "ready").touch()
    server.serve_forever()


def token(place, login, audience):
    now = int(time.time())
    group = FACTS["project"].rsplit("/", 1)[0]
    claims = {"iss": URL, "sub": f"project_path:{FACTS['project']}:ref_type:branch:ref:main", "aud": audience, "iat": now, "nbf": now - 5, "exp": now + 3600,
              "namespace_id": "12", "namespace_path": group, "project_id": str(FACTS["project_id"]), "project_path": FACTS["project"],
              "job_project_id": str(FACTS["project_id"]), "job_project_path": FACTS["project"], "user_id": str(FACTS["user_id"]),
              "user_login": login, "user_email": login + "@example.org", "user_access_level": "developer", "pipeline_id": str(FACTS["pipeline_id"]),
              "pipeline_source": "push", "job_id": str(FACTS["job_id"]), "ref": FACTS["ref"], "ref_type": "branch", "ref_path": "refs/heads/main",
              "ref_protected": "true", "runner_id": 5, "runner_environment": "self-hosted", "sha": "0" * 40,
              "jti": "00000000-0000-4000-8000-000000000001", "job_namespace_id": "12", "job_namespace_path": group, "job_source": "push",
              "project_visibility": "private", "ci_config_sha": "0" * 40,
              "ci_config_ref_uri": f"gitlab.example.org/{FACTS['project']}//.gitlab-ci.yml@refs/heads/main"}
    header = {"kid": "first-hour", "typ": "JWT", "alg": "RS256"}
    text = ".".join(base64url(json.dumps(part).encode()) for part in (header, claims))
    return text + "." + base64url(openssl("dgst", "-sha256", "-sign", str(place / "sign.key"), stdin=text.encode()))


def job(place, config, login, audience, script):
    runner = tomllib.loads(pathlib.Path(config).read_text())["runners"][0]
    if runner["executor"] != "custom":
        sys.exit("the runner's executor is not custom")
    custom = runner["custom"]
    private = pathlib.Path(tempfile.mkdtemp(prefix="custom-executor"))
    id_token = token(place, login, audience)
    variables = {"CI_SERVER_URL": URL, "CI_PROJECT_PATH": FACTS["project"], "CI_JOB_ID": str(FACTS["job_id"]), "SITE_ID_TOKEN": id_token}
    response = {"id": FACTS["job_id"], "token": "glcbt-first-hour", "allow_git_fetch": False,
                "job_info": {"name": "first", "stage": "test", "project_id": FACTS["project_id"], "project_name": "app", "user_id": FACTS["user_id"],
                             "project_full_path": FACTS["project"], "namespace_id": 12, "pipeline_id": FACTS["pipeline_id"], "time_in_queue_seconds": 1},
                "git_info": {"repo_url": f"{URL}/{FACTS['project']}.git", "ref": FACTS["ref"], "sha": "0" * 40, "before_sha": "0" * 40,
                             "ref_type": "branch", "refspecs": [], "depth": 20, "protected": True},
                "runner_info": {"timeout": 3600}, "steps": [], "image": {"name": ""}, "services": None, "artifacts": None, "cache": [],
                "variables": [{"key": key, "value": value, "public": False, "masked": False} for key, value in variables.items()],
                "credentials": [], "dependencies": [], "features": {}}
    (private / "response.json").write_text(json.dumps(response))
    environment = {"PATH": os.environ["PATH"], "TMPDIR": str(private), "BUILD_FAILURE_EXIT_CODE": "1", "SYSTEM_FAILURE_EXIT_CODE": "2",
                   "JOB_RESPONSE_FILE": str(private / "response.json"), "BUILD_EXIT_CODE_FILE": str(private / "build_exit_code")}
    environment |= {"CUSTOM_ENV_" + name: value for name, value in variables.items()}

    def call(stage, *words, answer=False):
        command = [custom[stage + "_exec"], *custom.get(stage + "_args", []), *words]
        done = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE if answer else None)
        return done.returncode, done.stdout

    code, text = call("config", answer=True)
    if code == 0:
        answer = json.loads(text)
        environment.update(answer["job_env"])
        directory = f"{answer['builds_dir']}/{FACTS['project']}"
        code, _ = call("prepare")
    if code == 0:
        for stage, body in (("prepare_script", "true"), ("step_script", f"mkdir -p '{directory}' && cd '{directory}'\n{script}")):
            file = private / (stage + ".sh")
            file.write_text(f"#!/usr/bin/env bash\nset -eo pipefail\n{body}\n")
            file.chmod(0o700)
            code, _ = call("run", str(file), stage)
            if code:
                break
    cleaned, _ = call("cleanup")
    for file in private.iterdir():
        file.unlink()
    private.rmdir()
    sys.exit(code or cleaned)


if __name__ == "__main__":
    what, place, *words = sys.argv[1:]
    {"serve": serve, "job": job}[what](pathlib.Path(place), *words)
