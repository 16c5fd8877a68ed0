"""The programs whose notices are read, posting all the while, each at a pace of its own.

    python3 posting.py

Reads one line of JSON from standard input, and posts until that ends:

    {"run": WORD, "url": URL, "mail": "HOST:PORT", "senders": {NAME: SECONDS BETWEEN TWO}}

The sender NAME posts to the source of that name. Of each request one line of JSON is said: its sender, the tag that it
has in its words, and its outcome. `taken` is the sender's own word; `refused` has the status; `unanswered` may have been
heard; of what is `unreached` nobody can have heard. A sender with a key repeats its request until it is taken, as it was;
the others make a new one, under a new tag.
"""

import datetime
import importlib
import json
import os
import smtplib
import subprocess
import sys
import threading
import time
import traceback
from email.message import EmailMessage
from http.client import HTTPException
from urllib.parse import urlsplit

import senders
from senders import NotTaken

# How soon one tries again that was not told that its notice is taken.
AGAIN = 0.15
# So long what has a key is repeated after the end, if nobody takes it.
PATIENCE = 60
WORDS = "It took 5 min."
PACKAGES = ["apprise.plugins", "cloudevents.core.bindings.http", "discord_webhook", "slack_sdk.webhook", "standardwebhooks"]
SENDERS = {}
# These know a request again by what its sender calls it.
WITH_KEY = set()


class Seen:
    """What came over the wire for one attempt of a sender."""

    def __init__(self):
        self.requests, self.status, self.told, self.is_reached = 0, None, "", True

    def asked(self):
        self.requests, self.status, self.told, self.is_reached = self.requests + 1, None, "", True

    def answered(self, status, told):
        self.status, self.told = status, told or ""

    def failed(self, error):
        # Nobody heard of it if nobody was there to connect to.
        while error is not None and not isinstance(error, ConnectionRefusedError):
            error = error.__cause__ or error.__context__
        self.is_reached = error is None


# Of each sender, what its attempt that goes on has seen. Apprise posts in threads of its own.
SEEN = {}


def watch_requests():
    """Sees what the libraries that are built on `requests` are answered, and changes nothing of it."""
    import requests

    send = requests.Session.send

    def watched(session, request, **settings):
        first = urlsplit(request.url).path.split("/")[1]
        seen = SEEN[first if first in SENDERS else "apprise-ntfy"]
        seen.asked()
        try:
            answer = send(session, request, **settings)
        except requests.RequestException as error:
            seen.failed(error)
            raise
        seen.answered(answer.status_code, answer.headers.get("sealbridge-delivery"))
        return answer

    requests.Session.send = watched


def sender(name, with_key=False):
    def add(call):
        SENDERS[name] = call
        if with_key:
            WITH_KEY.add(name)
        return call

    return add


def apprise(name, address, prepare=lambda url: None):
    """A service of Apprise's, by its address."""

    def call(url, tag):
        prepare(url)
        senders.apprise(address(urlsplit(url).netloc, urlsplit(url).path), title=tag, body=WORDS)

    SENDERS[name] = call


def post_as_slack(url):
    from apprise.plugins.slack import NotifySlack

    NotifySlack.webhook_url = url


def post_as_discord(url):
    from apprise.plugins.discord import NotifyDiscord

    NotifyDiscord.notify_url = url


apprise("apprise-json", lambda host, path: f"json://{host}{path}")
apprise("apprise-xml", lambda host, path: f"xml://{host}{path}")
apprise("apprise-form", lambda host, path: f"form://{host}{path}")
apprise("apprise-hookshot", lambda host, path: f"matrix://abcdef@{host}/?mode=hookshot&path={path}/webhook")
# It takes every part of a path for a topic, so a server of its has no path.
apprise("apprise-ntfy", lambda host, _: f"ntfy://{host}/alerts")
apprise("apprise-gotify", lambda host, path: f"gotify://{host}{path}/A1b2C3d4E5f6G7h")
apprise("apprise-slack", lambda *_: "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#ops", post_as_slack)
apprise("apprise-discord", lambda *_: "discord://4174216298/JHMHI8qBe7bk2ZwO5U711o3dV_js", post_as_discord)


@sender("slack-sdk")
def slack(url, tag):
    from slack_sdk.webhook import WebhookClient

    seen = SEEN["slack-sdk"]
    seen.asked()
    # Otherwise it repeats by itself what broke off, and nothing in Slack's format tells that from a second notice.
    answer = WebhookClient(url, retry_handlers=[]).send(text=f"{tag} is *done*")
    told = {name.lower(): value for name, value in answer.headers.items()}.get("sealbridge-delivery")
    seen.answered(answer.status_code, told)
    if answer.status_code != 200 or answer.body != "ok":
        raise NotTaken(answer.status_code)


@sender("discord-webhook")
def discord(url, tag):
    senders.execute(senders.discord(url, content=f"**Deploy** {tag} is done", username="CI"))


@sender("standard-webhooks", with_key=True)
def standard_webhooks(url, tag):
    from standardwebhooks import Webhook

    body = json.dumps({"type": "invoice.paid", "timestamp": "2026-11-30T00:08:00Z", "data": {"title": tag, "total": 12}})
    # It is signed anew each time, and called the same.
    now = datetime.datetime.now(datetime.timezone.utc)
    headers = {
        "webhook-id": f"msg_{tag}",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(senders.SECRET).sign(f"msg_{tag}", now, body),
        "content-type": "application/json",
    }
    senders.post(url, body, headers)


@sender("cloudevents", with_key=True)
def cloudevents(url, tag):
    from cloudevents.core.bindings.http import to_binary_event, to_structured_event
    from cloudevents.core.v1.event import CloudEvent

    attributes = {
        "id": tag,
        "source": "/backup/nas",
        "type": "test.backup.done",
        "specversion": "1.0",
        "datacontenttype": "application/json",
        "time": datetime.datetime(2026, 11, 30, 0, 8, tzinfo=datetime.timezone.utc),
    }
    event = CloudEvent(attributes=attributes, data={"message": f"Backup {tag} took 5 min"})
    message = (to_binary_event if tag.endswith(("1", "3", "5", "7", "9")) else to_structured_event)(event)
    senders.post(url, message.body, message.headers)


def curl(name, *arguments):
    seen = SEEN[name]
    seen.asked()
    told = ["-w", "%{http_code} %header{sealbridge-delivery}"]
    command = ["curl", "--fail", "-s", "--max-time", "30", "-o", os.devnull, *told, *arguments]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60)
    status, _, delivery = done.stdout.partition(" ")
    # By its own account nobody was there to connect to.
    seen.is_reached = done.returncode != 7
    if status.isdigit() and int(status):
        seen.answered(int(status), delivery)
    if done.returncode != 0:
        raise NotTaken(done.returncode)


@sender("curl-ntfy")
def curl_ntfy(url, tag):
    curl("curl-ntfy", "-H", "Tags: floppy_disk", "-d", f"Backup {tag} successful", f"{url}/mytopic")


@sender("curl-raw", with_key=True)
def curl_raw(url, tag):
    curl("curl-raw", "-H", f"Idempotency-Key: {tag}", "-d", f"snapshot {tag} saved", url)


class Mailer(smtplib.SMTP):
    """Sees what a mail is answered."""

    def data(self, mail):
        code, words = super().data(mail)
        SEEN["mail"].answered(code, words.decode(errors="replace"))
        return code, words


@sender("mail", with_key=True)
def mail(url, tag):
    message = EmailMessage()
    message["From"] = "Cron Daemon <root@nas.test>"
    message["To"] = f"{urlsplit(url).path.lstrip('/')}@localhost"
    message["Subject"] = tag
    message["Date"] = "Mon, 30 Nov 2026 00:08:00 +0000"
    message["Message-ID"] = f"<{tag}@nas.test>"
    message.set_content(f"{WORDS}\n")
    seen = SEEN["mail"]
    seen.asked()
    try:
        with Mailer(*PLAN["mail"].rsplit(":", 1), timeout=30) as server:
            server.send_message(message)
    except smtplib.SMTPRecipientsRefused as error:
        seen.answered(next(iter(error.recipients.values()))[0], "")
        raise
    except smtplib.SMTPResponseException as error:
        seen.answered(error.smtp_code, "")
        raise
    except OSError:
        # It had its answer, and only its goodbye was not heard.
        if seen.status != 250:
            raise


PLAN = {}
SAYING = threading.Lock()


def say(**line):
    with SAYING:
        print(json.dumps(line), flush=True)


def attempt(name, tag):
    """One notice by one sender. Whether it took it for taken."""
    seen = SEEN[name] = Seen()
    try:
        SENDERS[name](f"{PLAN['url']}/{name}", tag)
        outcome = "taken"
    except (NotTaken, OSError, HTTPException) as error:
        if not isinstance(error, NotTaken):
            seen.failed(error)
        outcome = "refused" if seen.status else "unanswered" if seen.is_reached else "unreached"
    arrived = "arrived" in seen.told.lower()
    say(sender=name, tag=tag, outcome=outcome, status=seen.status, arrived=arrived, requests=seen.requests)
    return outcome == "taken"


def post_on(name, pause, stop):
    number = 0
    while not stop.is_set():
        tag = f"notice-{PLAN['run']}-{name}-{number}"
        while not (is_taken := attempt(name, tag)) and name in WITH_KEY:
            time.sleep(AGAIN)
        number += 1
        stop.wait(pause if is_taken else AGAIN)


def guarded(name, pause, stop):
    try:
        post_on(name, pause, stop)
    except BaseException:
        say(sender=name, tag="", outcome="broken", status=None, arrived=False, requests=0)
        traceback.print_exc()


def main():
    PLAN.update(json.loads(sys.stdin.readline()))
    # Several threads that import one package at once may find it half there.
    for package in PACKAGES:
        importlib.import_module(package)
    watch_requests()
    stop = threading.Event()
    # What is repeated for ever keeps nobody from ending this.
    all_of_them = [
        threading.Thread(target=guarded, args=(name, pause, stop), daemon=True) for name, pause in PLAN["senders"].items()
    ]
    for one in all_of_them:
        one.start()
    sys.stdin.read()
    stop.set()
    end = time.monotonic() + PATIENCE
    for one in all_of_them:
        one.join(max(0, end - time.monotonic()))
    if any(one.is_alive() for one in all_of_them):
        sys.exit("a sender is still told nothing")


if __name__ == "__main__":
    main()
