/* A stand-in for an inference engine, as fast as one core can be: canned answers over HTTP/1.1 with keep-alive.

     engine [--pace MS] ADDRESS...        ADDRESS: a port on loopback, or unix:PATH

   POST, any path: 600 bytes of JSON; with "stream":true in the body, server-sent events:
     model m        64 tokens, a usage event and [DONE], each sent by itself, one right after the other
     model m-paced  the same, PACE_MS (or --pace) apart
     model m-brief  a token at once, the usage event and [DONE] PACE_MS later
     model m-held   a token at once and then one every HELD_MS, until the caller leaves
   GET /stats: what happened so far, as JSON. GET .../models: the models. GET of anything else: {}.
   Prints "ready" when it listens on all addresses. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { TOKENS = 64, EVENTS = TOKENS + 2, PACE_MS = 5, HELD_MS = 2000, FIRST_BUFFER = 8192, LARGEST_BUFFER = 64 << 20 };
enum { BURST, PACED, HELD };

typedef struct connection {
    int fd, listens, is_tcp, streaming;
    int next_event; /* of the stream, when paced or held */
    uint64_t due_ns;
    struct connection *after, *before; /* in the list of its pace */
    char *in;
    size_t in_size, in_length;
    char *out; /* what the caller did not take yet */
    size_t out_length, out_sent;
} connection;

typedef struct {
    char bytes[1024];
    int length;
} text;

/* All streams of one pace are due in the order in which they were queued: a list does for a timer. */
typedef struct {
    connection list;
    uint64_t interval_ns;
} pace;

static text answer, models, health, stream_head, events[EVENTS], stream_end;
static pace paces[3];
static int epoll;
static uint64_t served, streams, aborted, last_abort_ns, open_streams, connections;

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void unlink_stream(connection *c) {
    if (!c->after) return;
    c->before->after = c->after;
    c->after->before = c->before;
    c->after = c->before = NULL;
}

static void queue_stream(connection *c, uint64_t due_ns) {
    connection *list = &paces[c->streaming].list;
    c->due_ns = due_ns;
    c->before = list->before;
    c->after = list;
    list->before->after = c;
    list->before = c;
}

static void watch(connection *c, int operation, uint32_t wanted) {
    struct epoll_event event = {.events = wanted | EPOLLIN | EPOLLRDHUP, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

static void drop(connection *c) {
    if (c->streaming) {
        aborted++;
        open_streams--;
        last_abort_ns = now_ns();
    }
    connections--;
    unlink_stream(c);
    close(c->fd);
    free(c->in);
    free(c->out);
    free(c);
}

/* 0, or -1 when the connection is lost. */
static int write_out(connection *c, const char *bytes, size_t length) {
    if (!c->out) {
        ssize_t sent = send(c->fd, bytes, length, MSG_NOSIGNAL);
        if (sent == (ssize_t)length) return 0;
        if (sent < 0 && errno != EAGAIN) return -1;
        if (sent > 0) bytes += sent, length -= sent;
    }
    size_t rest = c->out_length - c->out_sent;
    char *joined = malloc(rest + length);
    if (!joined) return -1;
    if (rest) memcpy(joined, c->out + c->out_sent, rest);
    memcpy(joined + rest, bytes, length);
    free(c->out);
    c->out = joined;
    c->out_length = rest + length;
    c->out_sent = 0;
    watch(c, EPOLL_CTL_MOD, EPOLLOUT);
    return 0;
}

static int write_text(connection *c, const text *t) { return write_out(c, t->bytes, t->length); }

static int write_rest(connection *c) {
    while (c->out) {
        ssize_t sent = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
        if (sent < 0) return errno == EAGAIN ? 0 : -1;
        c->out_sent += sent;
        if (c->out_sent < c->out_length) continue;
        free(c->out);
        c->out = NULL;
        c->out_length = c->out_sent = 0;
        watch(c, EPOLL_CTL_MOD, 0);
    }
    return 0;
}

static int write_stats(connection *c) {
    char body[512], head[160];
    int length = snprintf(body, sizeof body,
        "{\"served\":%lu,\"streams\":%lu,\"open_streams\":%lu,\"aborted\":%lu,\"last_abort_ns\":%lu,\"connections\":%lu}",
        served, streams, open_streams, aborted, last_abort_ns, connections);
    int head_length = snprintf(head, sizeof head,
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n", length);
    return write_out(c, head, head_length) || write_out(c, body, length) ? -1 : 0;
}

/* tokens: how many of a paced stream are sent at once, or left out. */
static int begin_stream(connection *c, int kind, int tokens) {
    streams++;
    if (write_text(c, &stream_head)) return -1;
    if (kind == BURST) {
        for (int i = 0; i < EVENTS; i++)
            if (write_text(c, &events[i])) return -1;
        return write_text(c, &stream_end);
    }
    c->streaming = kind;
    c->next_event = tokens;
    open_streams++;
    queue_stream(c, now_ns() + paces[kind].interval_ns);
    return write_text(c, &events[0]);
}

static int go_on_stream(connection *c) {
    uint64_t due_ns = c->due_ns + paces[c->streaming].interval_ns;
    unlink_stream(c);
    if (c->streaming == HELD) {
        queue_stream(c, due_ns);
        return write_text(c, &events[1]);
    }
    if (c->next_event < TOKENS) {
        queue_stream(c, due_ns);
        return write_text(c, &events[c->next_event++]);
    }
    for (int i = TOKENS; i < EVENTS; i++)
        if (write_text(c, &events[i])) return -1;
    c->streaming = 0;
    open_streams--;
    return write_text(c, &stream_end);
}

static int wants_stream(const char *body, size_t length) {
    const char *at = memmem(body, length, "\"stream\"", 8);
    if (!at) return 0;
    at += 8;
    while (at < body + length && (*at == ':' || *at == ' ')) at++;
    return at + 4 <= body + length && !memcmp(at, "true", 4);
}

static int respond(connection *c, const char *head, const char *body, size_t length) {
    if (!memcmp(head, "GET /stats", 10)) return write_stats(c);
    served++;
    if (memcmp(head, "POST", 4)) {
        size_t line = strcspn(head, "\r");
        return write_text(c, memmem(head, line, "/models", 7) ? &models : &health);
    }
    if (!wants_stream(body, length)) return write_text(c, &answer);
    if (memmem(body, length, "m-paced", 7)) return begin_stream(c, PACED, 1);
    if (memmem(body, length, "m-brief", 7)) return begin_stream(c, PACED, TOKENS);
    return begin_stream(c, memmem(body, length, "m-held", 6) ? HELD : BURST, 1);
}

/* The length of the first whole request in the buffer; 0: not there yet. *head: of its head. */
static size_t whole_request(connection *c, size_t *head) {
    char *end = memmem(c->in, c->in_length, "\r\n\r\n", 4);
    if (!end) return 0;
    *head = end - c->in + 4;
    char kept = *end;
    *end = 0;
    char *field = strcasestr(c->in, "\r\ncontent-length:");
    int chunked = !field && strcasestr(c->in, "\r\ntransfer-encoding: chunked");
    *end = kept;
    if (chunked) { /* a JSON body holds no bare line end, so this is its last chunk */
        char *last = memmem(c->in + *head, c->in_length - *head, "0\r\n\r\n", 5);
        return last ? (size_t)(last - c->in) + 5 : 0;
    }
    size_t total = *head + (field ? strtoul(field + 17, NULL, 10) : 0);
    return c->in_length < total ? 0 : total;
}

static int answer_all(connection *c) {
    size_t head, total;
    while (!c->streaming && c->in_length && (total = whole_request(c, &head))) {
        int lost = respond(c, c->in, c->in + head, total - head);
        c->in_length -= total;
        memmove(c->in, c->in + total, c->in_length);
        c->in[c->in_length] = 0;
        if (lost) return -1;
    }
    return 0;
}

static int read_in(connection *c) {
    if (c->in_length + 1 >= c->in_size) {
        if (c->in_size >= LARGEST_BUFFER) return -1;
        char *larger = realloc(c->in, c->in_size * 2);
        if (!larger) return -1;
        c->in = larger;
        c->in_size *= 2;
    }
    ssize_t got = recv(c->fd, c->in + c->in_length, c->in_size - c->in_length - 1, 0);
    if (got < 0) return errno == EAGAIN ? 0 : -1;
    if (got == 0) return -1;
    c->in_length += got;
    c->in[c->in_length] = 0;
    return answer_all(c);
}

static void accept_all(connection *listener) {
    int fd, on = 1;
    while ((fd = accept4(listener->fd, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
        if (listener->is_tcp) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        connection *c = calloc(1, sizeof *c);
        c->fd = fd;
        c->in_size = FIRST_BUFFER;
        c->in = malloc(c->in_size);
        connections++;
        watch(c, EPOLL_CTL_ADD, 0);
    }
}

static void listen_on(const char *address) {
    union {
        struct sockaddr any;
        struct sockaddr_in tcp;
        struct sockaddr_un local;
    } to = {0};
    socklen_t length;
    int on = 1, is_tcp = strncmp(address, "unix:", 5);
    if (is_tcp) {
        to.tcp = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons(atoi(address))};
        to.tcp.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        length = sizeof to.tcp;
    } else {
        to.local.sun_family = AF_UNIX;
        strncpy(to.local.sun_path, address + 5, sizeof to.local.sun_path - 1);
        unlink(to.local.sun_path);
        length = sizeof to.local;
    }
    connection *c = calloc(1, sizeof *c);
    c->fd = socket(to.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK, 0);
    c->listens = 1;
    c->is_tcp = is_tcp != 0;
    setsockopt(c->fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(c->fd, &to.any, length) || listen(c->fd, 4096)) {
        fprintf(stderr, "engine: cannot listen on %s: %s\n", address, strerror(errno));
        exit(1);
    }
    watch(c, EPOLL_CTL_ADD, 0);
}

static void set_text(text *t, const char *head, const char *body) {
    t->length = snprintf(t->bytes, sizeof t->bytes,
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\n%scontent-length: %zu\r\n\r\n%s", head, strlen(body), body);
}

static void set_event(text *t, const char *payload) {
    t->length = snprintf(t->bytes, sizeof t->bytes, "%zx\r\ndata: %s\n\n\r\n", strlen(payload) + 8, payload);
}

static void make_texts(void) {
    const char *json = "content-type: application/json\r\n";
    char payload[800];
    set_text(&health, json, "{}");
    set_text(&models, json,
        "{\"object\":\"list\",\"data\":[{\"id\":\"m\",\"object\":\"model\",\"created\":1790000000,\"owned_by\":\"engine\","
        "\"root\":\"m\",\"max_model_len\":4096},{\"id\":\"m-paced\",\"object\":\"model\",\"created\":1790000000,"
        "\"owned_by\":\"engine\",\"max_model_len\":4096},{\"id\":\"m-brief\",\"object\":\"model\",\"created\":1790000000,"
        "\"owned_by\":\"engine\",\"max_model_len\":4096},{\"id\":\"m-held\",\"object\":\"model\",\"created\":1790000000,"
        "\"owned_by\":\"engine\",\"max_model_len\":4096}]}");
    set_text(&answer, json,
        "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1790000000,"
        "\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"The quick brown fox "
        "jumps over the lazy dog near the river bank while the sun sets slowly behind the distant hills, painting the "
        "sky in amber and violet. A canned answer of a plausible length.\",\"refusal\":null,\"tool_calls\":[]},"
        "\"logprobs\":null,\"finish_reason\":\"stop\",\"stop_reason\":null}],\"usage\":{\"prompt_tokens\":24,"
        "\"total_tokens\":72,\"completion_tokens\":48,\"prompt_tokens_details\":null},\"prompt_logprobs\":null}");
    for (int i = 0; i < TOKENS; i++) {
        snprintf(payload, sizeof payload,
            "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\","
            "\"created\":1790000000,\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{%s\"content\":\" tok%02d\"},"
            "\"logprobs\":null,\"finish_reason\":%s}]}",
            i ? "" : "\"role\":\"assistant\",", i, i == TOKENS - 1 ? "\"stop\"" : "null");
        set_event(&events[i], payload);
    }
    set_event(&events[TOKENS],
        "{\"id\":\"chatcmpl-0123456789abcdef0123456789abcdef\",\"object\":\"chat.completion.chunk\",\"created\":1790000000,"
        "\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":24,\"total_tokens\":88,\"completion_tokens\":64}}");
    set_event(&events[TOKENS + 1], "[DONE]");
    stream_head.length = snprintf(stream_head.bytes, sizeof stream_head.bytes,
        "HTTP/1.1 200 OK\r\nserver: uvicorn\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        "transfer-encoding: chunked\r\n\r\n");
    stream_end.length = snprintf(stream_end.bytes, sizeof stream_end.bytes, "0\r\n\r\n");
}

/* Sends what is due; how long epoll may sleep until the next, in ms. */
static int send_due(void) {
    int sleep_ms = -1;
    for (int kind = PACED; kind <= HELD; kind++) {
        connection *list = &paces[kind].list;
        uint64_t now = now_ns();
        while (list->after != list && list->after->due_ns <= now) {
            connection *c = list->after;
            if (go_on_stream(c) || answer_all(c)) drop(c);
        }
        if (list->after == list) continue;
        int until_ms = (list->after->due_ns - now) / 1000000;
        if (until_ms < 1) until_ms = 1;
        if (sleep_ms < 0 || until_ms < sleep_ms) sleep_ms = until_ms;
    }
    return sleep_ms;
}

int main(int count, char **arguments) {
    struct epoll_event ready[512];
    int first = count > 2 && !strcmp(arguments[1], "--pace") ? 3 : 1;
    double pace_ms = first > 1 ? atof(arguments[2]) : PACE_MS;
    if (count <= first || pace_ms <= 0) {
        fprintf(stderr, "usage: engine [--pace MS] ADDRESS...   a port on loopback, or unix:PATH\n");
        return 2;
    }
    signal(SIGPIPE, SIG_IGN);
    make_texts();
    paces[PACED].interval_ns = pace_ms * 1e6;
    paces[HELD].interval_ns = HELD_MS * 1000000ull;
    for (int kind = 0; kind < 3; kind++) paces[kind].list.after = paces[kind].list.before = &paces[kind].list;
    epoll = epoll_create1(0);
    for (int i = first; i < count; i++) listen_on(arguments[i]);
    puts("ready");
    fflush(stdout);
    for (;;) {
        int found = epoll_wait(epoll, ready, 512, send_due());
        for (int i = 0; i < found; i++) {
            connection *c = ready[i].data.ptr;
            if (c->listens) {
                accept_all(c);
                continue;
            }
            int lost = ready[i].events & EPOLLOUT ? write_rest(c) : 0;
            if (!lost && ready[i].events & ~EPOLLOUT) lost = read_in(c);
            if (lost) drop(c);
        }
    }
}
