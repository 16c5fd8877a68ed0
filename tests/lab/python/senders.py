"""The programs whose notices are read, run as their users run them.

    python3 senders.py list
    python3 senders.py send NAME URL [SECRET]     one notice by one sender to a server; fails if it is not taken
    python3 senders.py each URL [{NAME: SECRET}]  one by each to URL/NAME; says `NAME taken` or `NAME not taken`
    python3 senders.py mail HOST:PORT TO [SECRET] one mail by Python's smtplib; fails if it is not taken
    python3 senders.py capture FOLDER [NAME ...]  what each sends, as FOLDER/NAME.http

What is captured is what came over the wire: the line of the request, its headers but for those of the connection, an
empty line, and the body. `senders.txt` says which Python packages it needs; Alertmanager and amtool are Debian's.
"""

import base64
import contextlib
import datetime
import json
import os
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
import threading
import time
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

SENDERS = {}


class NotTaken(Exception):
    """A sender says that its notice was not taken."""


# Of the connection, or of the machine on which it ran.
LEFT_OUT = {
    *("host", "connection", "accept-encoding", "accept", "content-length", "transfer-encoding"),
    *("expect", "user-agent"),
}
PICTURE = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010804000000b51c0c020000000b4944415478da6364"
    "f80f00010501012718e3660000000049454e44ae426082"
)
SECRET = "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"


def sender(call):
    SENDERS[call.__name__.replace("_", "-")] = call
    return call


def picture(folder):
    path = os.path.join(folder, "graph.png")
    with open(path, "wb") as file:
        file.write(PICTURE)
    return path


# Apprise


def apprise(address, kind="info", attach=None, title="Backup of /home", body=None):
    from apprise import Apprise, AppriseAsset, NotifyType

    # Without this its words say which version sent them.
    told = Apprise(asset=AppriseAsset(async_mode=False))
    if not told.add(address):
        sys.exit(f"Apprise does not take {address}")
    body = body or "It took 5 min.\n3 < 4 files & none lost"
    if not told.notify(body=body, title=title, notify_type=NotifyType(kind), attach=attach):
        raise NotTaken(address)


def place(url, secret=None):
    parts = urlsplit(url)
    return shown(secret) + parts.netloc + parts.path.rstrip("/")


def shown(secret):
    """A secret as the password of an address. Whose it is does not matter."""
    return f"x:{secret}@" if secret else ""


@sender
def apprise_json(url, secret):
    apprise(f"json://{place(url, secret)}", kind="success")


@sender
def apprise_json_attached(url, _):
    with tempfile.TemporaryDirectory() as folder:
        apprise(f"json://{place(url)}", kind="failure", attach=picture(folder))


@sender
def apprise_xml(url, secret):
    apprise(f"xml://{place(url, secret)}", kind="warning")


@sender
def apprise_xml_attached(url, _):
    with tempfile.TemporaryDirectory() as folder:
        apprise(f"xml://{place(url)}", attach=picture(folder))


@sender
def apprise_form(url, secret):
    apprise(f"form://{place(url, secret)}", kind="failure")


@sender
def apprise_form_attached(url, _):
    with tempfile.TemporaryDirectory() as folder:
        apprise(f"form://{place(url)}", attach=picture(folder))


@sender
def apprise_hookshot(url, secret):
    parts = urlsplit(url)
    apprise(f"matrix://{secret or 'abcdef'}@{parts.netloc}/?mode=hookshot&path={parts.path.rstrip('/')}/webhook")


@sender
def apprise_ntfy(url, secret):
    # It takes every part of a path for a topic, so a server of its has no path.
    apprise(f"ntfy://{shown(secret)}{urlsplit(url).netloc}/alerts?priority=high&tags=warning,nas&click=https://nas.test/")


@sender
def apprise_ntfy_attached(url, _):
    with tempfile.TemporaryDirectory() as folder:
        apprise(f"ntfy://{urlsplit(url).netloc}/alerts", attach=picture(folder))


@sender
def apprise_gotify(url, secret):
    apprise(f"gotify://{place(url)}/{secret or 'A1b2C3d4E5f6G7h'}?priority=high&format=markdown", body="**It** took 5 min.")


@sender
def apprise_slack(url, secret):
    from apprise.plugins.slack import NotifySlack

    # Its hosts are in its code; what it posts there is what counts.
    NotifySlack.webhook_url = url.rstrip("/")
    apprise(f"slack://T1JJ3T3L2/A1BRTD4JD/{secret or 'TIiajkdnlazkcOXrIdevi7FQ'}/#ops", kind="warning")


@sender
def apprise_discord(url, secret):
    from apprise.plugins.discord import NotifyDiscord

    NotifyDiscord.notify_url = url.rstrip("/")
    apprise(f"discord://4174216298/{secret or 'JHMHI8qBe7bk2ZwO5U711o3dV_js'}?format=markdown", kind="failure")


# Slack's own library


def slack(url, **message):
    from slack_sdk.webhook import WebhookClient

    answer = WebhookClient(url).send(**message)
    if answer.status_code != 200 or answer.body != "ok":
        raise NotTaken(answer.status_code)


@sender
def slack_sdk_text(url, secret):
    url = f"{url}/services/T0/B0/{secret}" if secret else url
    slack(url, text="*Deploy* of `api` by <@U024BE7LH> is <https://ci.test/42|done> :tada:\n<!channel> 3 &lt; 4")


@sender
def slack_sdk_blocks(url, _):
    from slack_sdk.models.blocks import (
        ActionsBlock,
        ButtonElement,
        ContextBlock,
        DividerBlock,
        HeaderBlock,
        MarkdownTextObject,
        SectionBlock,
    )

    blocks = [
        HeaderBlock(text="Deploy failed"),
        SectionBlock(text=MarkdownTextObject(text="*api* on `prod-1` <!here>"), fields=["*Commit*\n1a2b3c", "*By*\nann"]),
        DividerBlock(),
        ContextBlock(elements=[MarkdownTextObject(text="started at 12:30")]),
        ActionsBlock(elements=[ButtonElement(text="Open the log", action_id="log", url="https://ci.test/log")]),
    ]
    slack(url, text="Deploy failed", blocks=blocks)


@sender
def slack_sdk_attachments(url, _):
    attachment = {
        "color": "danger",
        "fallback": "disk full",
        "pretext": "From the monitor",
        "author_name": "Monitor",
        "title": "Disk full",
        "title_link": "https://mon.test/1",
        "text": "`/var` on *db-1* has _no_ room",
        "fields": [{"title": "Free", "value": "0 B", "short": True}, {"title": "Host", "value": "db-1", "short": True}],
        "footer": "mon",
        "ts": 1700000000,
    }
    slack(url, text="", attachments=[attachment])


# Discord, by the library that most use


def discord(url, secret=None, **settings):
    from discord_webhook import DiscordWebhook

    return DiscordWebhook(url=f"{url.rstrip('/')}/api/webhooks/1/{secret or 'abcdef'}", **settings)


def execute(webhook):
    answer = webhook.execute()
    if not answer.ok:
        raise NotTaken(answer.status_code)


@sender
def discord_webhook_content(url, secret):
    execute(discord(url, secret, content="**Deploy** of `api` is done, <@123456789> @everyone", username="CI"))


@sender
def discord_webhook_embed(url, _):
    from discord_webhook import DiscordEmbed

    webhook = discord(url, content="")
    embed = DiscordEmbed(title="Disk full", description="`/var` on **db-1**", color="ed4245", url="https://mon.test/1")
    embed.set_author(name="Monitor")
    embed.set_footer(text="mon-1")
    embed.add_embed_field(name="Free", value="0 B")
    embed.add_embed_field(name="Host", value="db-1")
    embed.set_image(url="https://mon.test/graph.png")
    webhook.add_embed(embed)
    execute(webhook)


@sender
def discord_webhook_file(url, _):
    webhook = discord(url, content="The graph")
    webhook.add_file(file=PICTURE, filename="graph.png")
    execute(webhook)


@sender
def discord_webhook_edit(url, _):
    webhook = discord(url, content="Deploy began")
    execute(webhook)
    webhook.content = "Deploy is done"
    answer = webhook.edit()
    if not answer.ok:
        raise NotTaken(answer.status_code)


# Standard Webhooks and CloudEvents


def post(url, body, headers):
    import requests

    answer = requests.post(url, data=body, headers=headers, timeout=10)
    if not answer.ok:
        raise NotTaken(answer.status_code)


@sender
def standard_webhooks(url, secret):
    from standardwebhooks import Webhook

    body = json.dumps({"type": "invoice.paid", "timestamp": "2026-11-30T00:08:00Z", "data": {"id": "inv_1", "total": 12}})
    now = datetime.datetime.now(datetime.timezone.utc)
    name = "msg_2KWPBgLlAfxdpx2AI54pPJ85f4W"
    signature = Webhook(secret or SECRET).sign(name, now, body)
    headers = {
        "webhook-id": name,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": signature,
        "content-type": "application/json",
    }
    post(url, body, headers)


def event():
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "id": "A234-1234-1234",
        "source": "/backup/nas",
        "type": "test.backup.done",
        "specversion": "1.0",
        "subject": "home",
        "datacontenttype": "application/json",
        "time": datetime.datetime(2026, 11, 30, 0, 8, tzinfo=datetime.timezone.utc),
    }
    return CloudEvent(attributes=attributes, data={"message": "Backup of /home took 5 min", "files": 3})


@sender
def cloudevents_structured(url, _):
    from cloudevents.core.bindings.http import to_structured_event

    message = to_structured_event(event())
    post(url, message.body, message.headers)


@sender
def cloudevents_binary(url, secret):
    from cloudevents.core.bindings.http import to_binary_event

    message = to_binary_event(event())
    post(url, message.body, {**message.headers, **({"authorization": f"Bearer {secret}"} if secret else {})})


# curl, with what the documentation of ntfy, Gotify and others says


def curl(*arguments):
    done = subprocess.run(["curl", "--fail", "-s", "-o", os.devnull, *arguments], timeout=30)
    if done.returncode != 0:
        raise NotTaken(done.returncode)


def bearer(secret):
    return ("-H", f"Authorization: Bearer {secret}") if secret else ()


@sender
def curl_ntfy_words(url, secret):
    curl(*bearer(secret), "-d", "Backup successful 😀", f"{url}/mytopic")


@sender
def curl_ntfy_headers(url, _):
    curl(
        *("-H", "Title: Unauthorized access detected", "-H", "Priority: urgent", "-H", "Tags: warning,skull,front-door"),
        *("-H", "Click: https://home.nest.com/", "-H", "Attach: https://nest.com/view/yAxkasd.jpg"),
        *("-H", "Actions: http, Open door, https://api.nest.com/open/yAxkasd, clear=true; view, Look, https://nest.com/view"),
        *("-d", "Remote access to phils-laptop detected. Act right away.", f"{url}/phil_alerts"),
    )


@sender
def curl_ntfy_short_names(url, _):
    curl("-H", "t: =?UTF-8?B?w5xiZXJ3YWNodW5n?=", "-H", "p: 2", "-H", "ta: floppy_disk", "-H", "md: yes", "-d", "*Look* at **this**", f"{url}/t")


@sender
def curl_ntfy_json(url, _):
    body = {
        "topic": "mytopic",
        "message": "Disk space is low at 5.1 GB",
        "title": "Low disk space alert",
        "tags": ["warning", "cd"],
        "priority": 4,
        "click": "https://homecamera.lan/xasds1h2xsSsa/",
        "actions": [{"action": "view", "label": "Admin panel", "url": "https://filesrv.lan/admin"}],
    }
    curl("-d", json.dumps(body), url)


@sender
def curl_ntfy_file(url, _):
    with tempfile.TemporaryDirectory() as folder:
        curl("-T", picture(folder), "-H", "Filename: graph.png", "-H", "Message: The graph", f"{url}/mytopic")


@sender
def curl_ntfy_address(url, secret):
    packed = base64.urlsafe_b64encode(f"Bearer {secret}".encode()).decode().rstrip("=")
    shown = f"&auth={packed}" if secret else ""
    curl(f"{url}/mywebhook/publish?message=Webhook+triggered&title=A%0d%0aB&priority=high&tags=warning,skull{shown}")


@sender
def curl_gotify_form(url, secret):
    curl(f"{url}/message?token={secret or 'A1b2C3d4E5f6G7h'}", "-F", "title=my title", "-F", "message=my message", "-F", "priority=5")


@sender
def curl_raw_words(url, secret):
    curl(*bearer(secret), "-d", "snapshot 3f2a saved", url)


@sender
def curl_raw_json(url, _):
    curl("--json", json.dumps({"title": "restic", "message": "snapshot 3f2a saved", "level": "warning"}), url)


@sender
def curl_raw_form(url, _):
    curl("-d", "host=nas", "--data-urlencode", "state=it is 3 < 4 & well", url)


@sender
def curl_raw_file(url, _):
    with tempfile.TemporaryDirectory() as folder:
        curl("-H", "Content-Type: image/png", "-H", "X-Filename: graph.png", "-T", picture(folder), url)


@sender
def curl_ping_failed(url, secret):
    url = f"{url}/{secret}" if secret else url
    curl("-m", "10", "--data-raw", "rsync: 3 < 4 files\nno room left", f"{url}/fail")


# Alertmanager


def alertmanager(url, steps):
    """Runs one, and has amtool tell it of alerts."""
    program = next(filter(None, map(shutil.which, ("prometheus-alertmanager", "alertmanager"))), None)
    if program is None:
        sys.exit("Alertmanager is not there (Debian: prometheus-alertmanager)")
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as end:
        config = os.path.join(folder, "config.yml")
        with open(config, "w", encoding="utf-8") as file:
            json.dump(
                {
                    "route": {
                        "receiver": "room",
                        "group_by": ["alertname", "cluster"],
                        "group_wait": "1s",
                        "group_interval": "1s",
                        "repeat_interval": "1h",
                    },
                    "receivers": [{"name": "room", "webhook_configs": [{"url": url, "send_resolved": True}]}],
                },
                file,
            )
        port = free_port()
        server = subprocess.Popen(
            [
                *(program, f"--config.file={config}", f"--storage.path={folder}/data", "--cluster.listen-address="),
                *(f"--web.listen-address=127.0.0.1:{port}", "--web.external-url=http://alerts.test:9093"),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        end.callback(server.wait)
        end.callback(server.send_signal, signal.SIGTERM)
        here = f"--alertmanager.url=http://127.0.0.1:{port}"
        until(lambda: subprocess.run(["amtool", here, "config"], capture_output=True).returncode == 0)
        steps(lambda *arguments: subprocess.run(["amtool", here, "alert", "add", *arguments], check=True, timeout=30))


def free_port():
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def until(holds, within=30):
    end = time.monotonic() + within
    while not holds():
        if time.monotonic() > end:
            sys.exit("this takes too long")
        time.sleep(0.1)


def fire(add, instance, severity, *more):
    add(
        *("DiskFull", "cluster=prod", f"instance={instance}", f"severity={severity}"),
        *(f"--annotation=summary=The disk of {instance} is full", "--annotation=description=Less than 1 % of /var is free."),
        *("--annotation=runbook_url=https://wiki.test/disk-full", "--generator-url=http://prometheus.test/graph?g0=1", *more),
    )


def moment():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def alertmanager_steps(url, heard):
    """Fires two alerts, ends one, ends the other; after each, waits until `heard` says that it was told of."""

    def steps(add):
        # One that began before its group waited for others is told of at once.
        began = f"--start={moment()}"
        fire(add, "db-1:9100", "critical", began)
        fire(add, "db-2:9100", "warning", began)
        heard(1)
        fire(add, "db-2:9100", "warning", began, f"--end={moment()}")
        heard(2)
        fire(add, "db-1:9100", "critical", began, f"--end={moment()}")
        heard(3)

    alertmanager(url, steps)


# Mail


def mail():
    message = EmailMessage()
    message["From"] = "Cron Daemon <root@nas.test>"
    message["To"] = "room@localhost"
    message["Subject"] = "Cron <root@nas> /usr/local/bin/backup – übrig"
    message["Date"] = "Mon, 30 Nov 2026 00:08:00 +0000"
    message["Message-ID"] = "<20261130000800.1@nas.test>"
    message["X-Priority"] = "1"
    message.set_content("rsync: 3 < 4 files\nübrig: 1\n")
    message.add_attachment(PICTURE, maintype="image", subtype="png", filename="graph.png")
    return message


def send_mail(address, to, secret=None):
    host, port = address.rsplit(":", 1)
    try:
        with smtplib.SMTP(host, int(port)) as server:
            if secret:
                server.login(to.split("@")[0], secret)
            server.send_message(mail(), to_addrs=[to])
    except smtplib.SMTPException as error:
        raise NotTaken(error) from error


# Capturing


class Recorder(ThreadingHTTPServer):
    """Hears everything, and answers so that its sender is content."""

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.heard = []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def hear(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        headers = [(key, value) for key, value in self.headers.items() if key.lower() not in LEFT_OUT]
        lines = [f"{self.command} {self.path}"] + [f"{key}: {value}" for key, value in headers]
        self.server.heard.append("\n".join(lines).encode("latin-1") + b"\n\n" + body)
        # Slack's senders want this word, and Discord's an id.
        answer = b'{"id": "1"}' if "/api/webhooks/" in self.path else b"ok"
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PUT = do_PATCH = hear


def write(folder, name, request):
    with open(os.path.join(folder, f"{name}.http"), "wb") as file:
        file.write(request)
    print(name)


def capture(folder, names):
    os.makedirs(folder, exist_ok=True)
    for name, send in SENDERS.items():
        if names and name not in names:
            continue
        recorder = Recorder()
        send(recorder.url, None)
        until(lambda recorder=recorder: recorder.heard)
        # Of several the last is what its name says.
        write(folder, name, recorder.heard[-1])
        recorder.shutdown()
    if not names or "alertmanager" in names:
        recorder = Recorder()
        alertmanager_steps(recorder.url + "/", lambda count: until(lambda: len(recorder.heard) >= count))
        for name, request in zip(("firing", "changed", "resolved"), recorder.heard):
            write(folder, f"alertmanager-{name}", request)
        recorder.shutdown()
    if not names or "mail" in names:
        write(folder, "mail-python", b"POST /\nContent-Type: message/rfc822\n\n" + bytes(mail()))


def main():
    match sys.argv[1:]:
        case ["list"]:
            print("\n".join(SENDERS))
        case ["send", name, url, *secret]:
            SENDERS[name](url, secret[0] if secret else None)
        case ["each", url, *secrets]:
            secrets = json.loads(secrets[0]) if secrets else dict.fromkeys(SENDERS)
            for name, secret in secrets.items():
                try:
                    SENDERS[name](f"{url.rstrip('/')}/{name}", secret)
                    print(name, "taken")
                except NotTaken:
                    print(name, "not taken")
        case ["mail", address, to, *secret]:
            send_mail(address, to, *secret)
        case ["capture", folder, *names]:
            capture(folder, names)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
