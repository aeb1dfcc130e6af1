# The image of an agent program, for bottles that name no other: the package that `provider install` pins, on Debian
# with node. Build it with another base of Debian's kind by BOT_BOTTLE_BASE_IMAGE.
ARG BASE=docker.io/library/node:22-bookworm-slim
FROM ${BASE}

# What the programs call, and what their work mostly needs.
RUN apt-get update \
 && apt-get install -y --no-install-recommends \
      bash ca-certificates curl git less openssh-client patch procps ripgrep unzip \
 && rm -rf /var/lib/apt/lists/*

# The bottle's user, in the place of one with the same number (`node`).
RUN sed -i '/^[^:]*:[^:]*:1000:/d' /etc/passwd /etc/group \
 && echo 'agent:x:1000:1000:agent:/home/agent:/bin/bash' >> /etc/passwd \
 && echo 'agent:x:1000:' >> /etc/group \
 && mkdir -p /home/agent && chown 1000:1000 /home/agent

# The archive is the one whose hash bot-bottle knows. Programs look for files beside themselves, so all of it stays.
ARG PACKAGE
ARG VERSION
ARG SHA512
ARG TREE
ARG EXECUTABLE
ARG PROGRAM
RUN mkdir -p /opt/agent && cd /opt/agent \
 && archive="$(npm pack --silent "${PACKAGE}@${VERSION}")" \
 && echo "${SHA512}  ${archive}" | sha512sum -c - \
 && tar -xzf "${archive}" && rm "${archive}" && chown -R 0:0 . \
 && chmod 755 "${TREE}/${EXECUTABLE}" \
 && ln -s "/opt/agent/${TREE}/${EXECUTABLE}" "/usr/local/bin/${PROGRAM}"
