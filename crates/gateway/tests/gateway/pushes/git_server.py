"""Dulwich's server: one repository below a folder, which anybody may push to."""

import sys
from wsgiref import simple_server

from dulwich.repo import Repo
from dulwich.server import DictBackend
from dulwich.web import make_wsgi_chain

root, port = sys.argv[1:]
path = "/me/app.git"
application = make_wsgi_chain(DictBackend({path: Repo(root + path)}))
simple_server.make_server("127.0.0.1", int(port), application).serve_forever()
