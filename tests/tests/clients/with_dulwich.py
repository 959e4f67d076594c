"""What a person does with dulwich: with_dulwich.py <command> <folder> <url> [<ref>]. Prints what it found; ends with 1 and
the reason where the server refuses."""

import sys

from dulwich import porcelain
from dulwich.repo import Repo

command, folder, url = sys.argv[1:4]
author = b"Dulwich <dulwich@example.org>"
try:
    if command == "begin":
        repo = Repo.init(folder, mkdir=True)
        repo.refs.set_symbolic_ref(b"HEAD", b"refs/heads/main")
    elif command == "commit":
        with open(f"{folder}/file", "a") as file:
            file.write("line\n")
        porcelain.add(folder, [f"{folder}/file"])
        print(porcelain.commit(folder, message=b"more", author=author, committer=author).decode())
    elif command == "push":
        porcelain.push(folder, url, sys.argv[4], outstream=sys.stdout.buffer, errstream=sys.stdout.buffer)
    elif command == "clone":
        porcelain.clone(url, folder, errstream=sys.stderr.buffer)
        print(Repo(folder).head().decode())
    elif command == "fetch":
        fetched = porcelain.fetch(folder, url, errstream=sys.stderr.buffer)
        print(fetched.refs[b"refs/heads/main"].decode())
except Exception as error:
    print(f"{type(error).__name__}: {error}")
    sys.exit(1)
