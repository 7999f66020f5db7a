"""The obligations of every adapter of MailSender."""

from services.notify.records import Mail
from syncline.model.identifiers import new_text_id


async def test_a_mail_arrives_as_it_was_written(outside):
    to = f"{new_text_id()}@example.com"
    mail = Mail(to=to, subject="Ännchen changed “Team”", text="Grüße\n<b>", html="<p>Grüße &lt;b&gt;</p>")
    await outside.sender.send(mail)
    (arrived,) = outside.mails(to)
    assert arrived["subject"] == mail.subject
    assert mail.text in arrived["text"] or mail.html in arrived["html"]
    assert mail.html in arrived["html"]
