"""Prints what C libraries call the errors and signals that a log is judged by: a name and a text on each line,
and `en` behind a text in English.

Usage: system_messages.py LOCALES MUSL

LOCALES is the folder of glibc's message catalogues, such as /usr/share/locale; MUSL is musl's source.
"""

import gettext
import pathlib
import re
import sys

# glibc's texts (sysdeps/gnu/errlist.h, sysdeps/generic/siglist.h, sysdeps/posix/gai_strerror-strs.h).
GLIBC = {
    "EADDRINUSE": "Address already in use",
    "EAGAIN": "Resource temporarily unavailable",
    "EBUSY": "Device or resource busy",
    "ECONNABORTED": "Software caused connection abort",
    "ECONNREFUSED": "Connection refused",
    "ECONNRESET": "Connection reset by peer",
    "EDQUOT": "Disk quota exceeded",
    "EFBIG": "File too large",
    "EHOSTDOWN": "Host is down",
    "EHOSTUNREACH": "No route to host",
    "EHWPOISON": "Memory page has hardware error",
    "EIO": "Input/output error",
    "EMFILE": "Too many open files",
    "ENETDOWN": "Network is down",
    "ENETUNREACH": "Network is unreachable",
    "ENFILE": "Too many open files in system",
    "ENOBUFS": "No buffer space available",
    "ENOMEM": "Cannot allocate memory",
    "ENOSPC": "No space left on device",
    "EREMOTEIO": "Remote I/O error",
    "EROFS": "Read-only file system",
    "ESTALE": "Stale file handle",
    "ETIMEDOUT": "Connection timed out",
    "ETXTBSY": "Text file busy",
    "EUCLEAN": "Structure needs cleaning",
    "EAI_AGAIN": "Temporary failure in name resolution",
    "EAI_NONAME": "Name or service not known",
    "SIGKILL": "Killed",
    "SIGTERM": "Terminated",
    "SIGXCPU": "CPU time limit exceeded",
    "SIGXFSZ": "File size limit exceeded",
}


def glibc(locales):
    """The English texts, and the translations of each language."""
    yield from GLIBC.items()
    for catalogue in sorted(pathlib.Path(locales).glob("*/LC_MESSAGES/libc.mo")):
        with catalogue.open("rb") as file:
            translations = gettext.GNUTranslations(file)
        for name, text in GLIBC.items():
            yield name, translations.gettext(text)


def musl(source):
    """musl's own texts, which it does not translate."""
    errors = pathlib.Path(source, "src/errno/__strerror.h").read_text()
    for name, text in re.findall(r'^E\((\w+),\s*"(.*)"\)', errors, re.MULTILINE):
        if name in GLIBC:
            yield name, text
    # The table of signals is in their order, from 1 on; the text of each is on a line of its own.
    signals = pathlib.Path(source, "src/string/strsignal.c").read_text()
    texts = dict(re.findall(r'\[(SIG\w+)\]\s*=\s*"(.*?)"', signals)) or {}
    for name, text in texts.items():
        if name in GLIBC:
            yield name, text


def main():
    locales, source = sys.argv[1:]
    of_musl = set(musl(source))
    english = {*GLIBC.values(), *(text for _, text in of_musl)}
    found = {(name, text.strip()) for name, text in [*glibc(locales), *of_musl]}
    names = {}
    for name, text in sorted(found):
        names.setdefault(text, set()).add(name)
    for text, of in sorted(names.items(), key=lambda entry: (min(entry[1]), entry[0])):
        # A text that stands for several says nothing about which it is; the first one is as good as any.
        print(f"{min(of)}\t{text}" + ("\ten" if text in english else ""))


main()
