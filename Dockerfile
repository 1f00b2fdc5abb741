FROM golang:1.26-bookworm AS build
WORKDIR /src

# The modules first: this layer lasts until go.mod or go.sum changes.
COPY go.mod go.sum ./
RUN go mod download

COPY cmd ./cmd
COPY internal ./internal
COPY recipe ./recipe
COPY session ./session
ARG VERSION=dev
RUN CGO_ENABLED=0 go build -trimpath -ldflags "-s -w -X main.version=${VERSION}" -o /out/agent ./cmd/agent

# The final image has no shell to make directories with, so its tree is laid out here.
# /data belongs to the agent's user: a fresh named volume takes its owner from it.
COPY configs/agent.yaml /out/etc/turnstile/agent.yaml
# `docker compose exec agent agent status`: on the PATH, too.
RUN mkdir -p /out/usr/local/bin && ln -s /agent /out/usr/local/bin/agent
RUN mkdir /out/data && chown 10001:10001 /out/data && chmod 755 /out/etc /out/etc/turnstile && chmod 644 /out/etc/turnstile/agent.yaml

FROM scratch
# A whole tree in one COPY keeps the owners inside it; --chown would give everything away.
COPY --from=build /out/ /
ENV TURNSTILE_CONFIG=/etc/turnstile/agent.yaml
USER 10001:10001
WORKDIR /data
ENTRYPOINT ["/agent"]
CMD ["run"]
