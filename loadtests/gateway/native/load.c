/* Callers of an HTTP server, as many as one core can be: each sends its next request when its answer is complete.

     load --port P --connections N --seconds S --requests FILE [more]

   --requests FILE   what is sent, in turn: per request its length (4 bytes, little-endian) and its bytes
   --warmup S        uncounted seconds before (0.3)
   --events N        answers are streams of at least so many events; one that has fewer failed
   --leave N         close the connection after N events of each stream, and come back
   --rate R          start R requests a second instead of as many as possible; latency is from when they were due
   --hold            one stream per connection, none of which ends: prints {"open":...} when all have their first event
   --ramp R          with --hold: so many connections a second (2000)

   Prints one line of JSON. Times are in microseconds, with buckets of less than 1%. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { HEAD_BYTES = 4096, MOST_FAILURES = 1000, PATIENCE_S = 5 };
enum framing { BY_LENGTH, BY_CHUNKS, BY_END };
enum chunk { SIZE, EXTENSION, DATA, AFTER_DATA, TRAILER };
enum { SUB_BITS = 7, SUBS = 1 << SUB_BITS, BUCKETS = 40 * SUBS };

/* Counts values in ns: exact below 128, then 128 buckets for each doubling. */
typedef struct {
    uint64_t buckets[BUCKETS], count, largest;
    double sum;
} histogram;

typedef struct connection {
    int fd, busy, slot;
    const char *unsent;
    size_t unsent_bytes;
    uint64_t began_ns, first_ns, last_ns;
    long events;
    int status, in_head, closes, lost_before;
    enum framing framing;
    enum chunk chunk;
    uint64_t left; /* of the body or of the chunk */
    int line;      /* how much of "data:" this line of the stream has; -1: it is another line */
    int trailer;   /* length of the trailer's current line */
    size_t head_bytes;
    char head[HEAD_BYTES];
} connection;

typedef struct {
    const char *bytes;
    size_t length;
} request;

static struct {
    int port, connections, hold;
    double seconds, warmup, rate, ramp;
    long events, leave;
    const char *file;
} options = {.warmup = 0.3, .ramp = 2000};

static int epoll;
static request *requests;
static size_t request_count, next_request;
static connection *all;
static int *idle, idle_count;
static histogram latency, first_byte, gap;
static uint64_t counting_from, ends_ns, next_due_ns;
static int busy_count;
static uint64_t done, failed, bad_status, reconnects, events_seen, bytes_seen, left_early, opened;
static char first_failure[200];

static uint64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void count(histogram *h, uint64_t value) {
    int doublings = value < SUBS ? 0 : 64 - __builtin_clzll(value) - SUB_BITS;
    size_t bucket = doublings ? (size_t)doublings * SUBS / 2 + (value >> doublings) : value;
    h->buckets[bucket < BUCKETS ? bucket : BUCKETS - 1]++;
    h->count++;
    h->sum += value;
    if (value > h->largest) h->largest = value;
}

/* The middle of the bucket that holds this share of the values, in us. */
static double quantile_us(const histogram *h, double share) {
    uint64_t wanted = share * h->count, seen = 0;
    if (wanted >= h->count) wanted = h->count - 1;
    for (size_t bucket = 0; bucket < BUCKETS; bucket++) {
        seen += h->buckets[bucket];
        if (seen <= wanted) continue;
        if (bucket < SUBS) return bucket / 1e3;
        int doublings = (bucket - SUBS / 2) / (SUBS / 2);
        uint64_t low = (bucket - (uint64_t)doublings * SUBS / 2) << doublings;
        uint64_t middle = low + (1ull << doublings) / 2;
        return (middle < h->largest ? middle : h->largest) / 1e3;
    }
    return 0;
}

static void print_histogram(const char *name, const histogram *h) {
    if (!h->count) {
        printf(",\"%s\":null", name);
        return;
    }
    printf(",\"%s\":{\"count\":%lu,\"mean\":%.2f,\"p50\":%.2f,\"p90\":%.2f,\"p99\":%.2f,\"p999\":%.2f,\"max\":%.2f}", name,
        h->count, h->sum / h->count / 1e3, quantile_us(h, 0.5), quantile_us(h, 0.9), quantile_us(h, 0.99),
        quantile_us(h, 0.999), h->largest / 1e3);
}

static void die(const char *what) {
    fprintf(stderr, "load: %s\n", what);
    exit(2);
}

static int counting(uint64_t now) { return now >= counting_from && now < ends_ns; }

static void note_failure(const char *what, int status) {
    failed++;
    if (!first_failure[0]) snprintf(first_failure, sizeof first_failure, "%s (status %d)", what, status);
    if (failed > MOST_FAILURES) ends_ns = 0;
}

static void watch(connection *c, int operation, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = c};
    epoll_ctl(epoll, operation, c->fd, &event);
}

/* Connects, waiting for it; without success, the connection stays away. */
static int connect_one(connection *c) {
    int on = 1;
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = htons(options.port)};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (c->fd < 0 || connect(c->fd, (void *)&to, sizeof to)) {
        note_failure(strerror(errno), 0);
        if (c->fd >= 0) close(c->fd);
        c->fd = -1;
        return -1;
    }
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(c->fd, F_SETFL, O_NONBLOCK);
    watch(c, EPOLL_CTL_ADD, EPOLLIN);
    return 0;
}

static void disconnect(connection *c) {
    if (c->fd >= 0) close(c->fd);
    c->fd = -1;
}

static int send_rest(connection *c) {
    while (c->unsent_bytes) {
        ssize_t sent = send(c->fd, c->unsent, c->unsent_bytes, MSG_NOSIGNAL);
        if (sent < 0 && errno == EAGAIN) {
            watch(c, EPOLL_CTL_MOD, EPOLLIN | EPOLLOUT);
            return 0;
        }
        if (sent < 0) return -1;
        c->unsent += sent;
        c->unsent_bytes -= sent;
    }
    return 0;
}

static void stop_watching_out(connection *c) {
    if (!c->unsent_bytes) watch(c, EPOLL_CTL_MOD, EPOLLIN);
}

static void begin(connection *c, uint64_t from_ns) {
    const request *r = &requests[next_request];
    next_request = next_request + 1 == request_count ? 0 : next_request + 1;
    if (c->fd < 0) {
        reconnects++;
        if (connect_one(c)) {
            if (options.rate > 0) idle[idle_count++] = c->slot; /* it may be back when its turn comes again */
            return;
        }
    }
    c->began_ns = from_ns;
    c->first_ns = c->last_ns = 0;
    c->events = c->status = c->closes = c->line = c->trailer = 0;
    c->in_head = 1;
    c->head_bytes = 0;
    c->busy = 1;
    busy_count++;
    c->unsent = r->bytes;
    c->unsent_bytes = r->length;
    send_rest(c); /* a lost connection is seen when it is read */
}

static void rest(connection *c) {
    if (c->busy) busy_count--;
    c->busy = 0;
    if (options.rate > 0) idle[idle_count++] = c->slot;
}

/* After an answer, whole or not. */
static void next(connection *c, uint64_t now) {
    rest(c);
    if (options.rate <= 0 && !options.hold && now < ends_ns) begin(c, now);
}

static void lost(connection *c, const char *what, uint64_t now) {
    disconnect(c);
    if (!c->busy) return; /* closed while idle, as a server may */
    /* A server may close an idle connection at the very moment a request goes out: that one is sent again, once. */
    if (c->in_head && !c->head_bytes && !c->lost_before && !options.hold) {
        c->lost_before = 1;
        c->busy = 0;
        busy_count--;
        begin(c, c->began_ns);
        return;
    }
    note_failure(what, c->status);
    next(c, now);
}

static void complete(connection *c, uint64_t now) {
    c->lost_before = 0;
    if (options.hold || (options.events && c->events < options.events))
        note_failure("a stream ended early", c->status);
    else if (c->status != 200) {
        bad_status++;
        note_failure("not an answer", c->status);
    } else if (counting(now)) {
        done++;
        count(&latency, now - c->began_ns);
    }
    if (c->closes || c->unsent_bytes) disconnect(c);
    next(c, now);
}

static void count_events(connection *c, const char *at, size_t length, uint64_t now) {
    static const char DATA_FIELD[] = "data:";
    const char *end = at + length;
    long before = c->events;
    while (at < end) {
        if (c->line >= 0 && c->line < 5) {
            c->line = *at == DATA_FIELD[c->line] ? c->line + 1 : -1;
            if (*at == '\n') c->line = 0;
            else if (c->line == 5) c->events++;
            at++;
            continue;
        }
        const char *line_end = memchr(at, '\n', end - at);
        if (!line_end) return (void)(events_seen += counting(now) ? c->events - before : 0);
        c->line = 0;
        at = line_end + 1;
    }
    if (counting(now)) events_seen += c->events - before;
}

static void take_payload(connection *c, const char *at, size_t length, uint64_t now) {
    if (!length) return;
    if (!c->first_ns) {
        c->first_ns = now;
        if (counting(now)) count(&first_byte, now - c->began_ns);
        if (options.hold) opened++;
    }
    if (counting(now)) bytes_seen += length;
    if (!options.events && !options.hold && !options.leave) return;
    long before = c->events;
    count_events(c, at, length, now);
    if (c->events > before) {
        if (c->last_ns && counting(now)) count(&gap, now - c->last_ns);
        c->last_ns = now;
    }
}

static int take_head_line(connection *c, const char *line, size_t length) {
    if (length > 15 && !strncasecmp(line, "content-length:", 15)) {
        c->framing = BY_LENGTH;
        c->left = strtoull(line + 15, NULL, 10);
    } else if (length > 18 && !strncasecmp(line, "transfer-encoding:", 18) && memmem(line, length, "chunked", 7)) {
        c->framing = BY_CHUNKS;
        c->chunk = SIZE;
        c->left = 0;
    } else if (length > 11 && !strncasecmp(line, "connection:", 11) && memmem(line, length, "close", 5))
        c->closes = 1;
    return 0;
}

/* How many of the bytes belong to the head; -1: this is no head. */
static ssize_t take_head(connection *c, const char *at, size_t length) {
    size_t room = HEAD_BYTES - c->head_bytes, copied = length < room ? length : room, before = c->head_bytes;
    memcpy(c->head + before, at, copied);
    c->head_bytes += copied;
    char *end = memmem(c->head, c->head_bytes, "\r\n\r\n", 4);
    if (!end) return c->head_bytes == HEAD_BYTES ? -1 : (ssize_t)copied;
    if (c->head_bytes < 12 || memcmp(c->head, "HTTP/1.", 7)) return -1;
    c->status = atoi(c->head + 9);
    ssize_t used = end + 4 - c->head - before;
    if (c->status == 100) { /* an interim answer: the real one follows */
        c->head_bytes = 0;
        return used;
    }
    c->in_head = 0;
    c->framing = BY_END;
    for (char *line = c->head; line < end;) {
        char *line_end = memmem(line, end + 2 - line, "\r\n", 2);
        take_head_line(c, line, line_end - line);
        line = line_end + 2;
    }
    if (c->framing == BY_END) c->closes = 1;
    return used;
}

/* 1: the body is complete; -1: it is malformed. */
static int take_chunks(connection *c, const char *at, size_t length, uint64_t now) {
    const char *end = at + length;
    while (at < end) {
        if (c->chunk == DATA) {
            size_t take = c->left < (uint64_t)(end - at) ? c->left : (uint64_t)(end - at);
            take_payload(c, at, take, now);
            at += take;
            c->left -= take;
            if (!c->left) c->chunk = AFTER_DATA;
            continue;
        }
        char byte = *at++;
        if (c->chunk == AFTER_DATA) {
            if (byte == '\n') c->chunk = SIZE;
        } else if (c->chunk == TRAILER) {
            if (byte == '\n' && !c->trailer) return 1;
            c->trailer = byte == '\n' ? 0 : c->trailer + (byte != '\r');
        } else if (byte == '\n') {
            c->chunk = c->left ? DATA : TRAILER;
        } else if (c->chunk == SIZE && byte != '\r') {
            static const char DIGITS[] = "0123456789abcdef";
            const char *digit = memchr(DIGITS, byte >= 'A' ? byte | 32 : byte, 16);
            if (byte == ';') c->chunk = EXTENSION;
            else if (!digit) return -1;
            else c->left = c->left * 16 + (digit - DIGITS);
        }
    }
    return 0;
}

static void take(connection *c, const char *at, size_t length, uint64_t now) {
    while (c->in_head && length) {
        ssize_t used = take_head(c, at, length);
        if (used < 0) return lost(c, "not HTTP", now);
        at += used;
        length -= used;
    }
    if (c->in_head) return;
    int whole = 0;
    if (c->framing == BY_CHUNKS) whole = take_chunks(c, at, length, now);
    else {
        take_payload(c, at, length, now);
        if (c->framing == BY_LENGTH) {
            c->left -= length < c->left ? length : c->left;
            whole = c->left == 0;
        }
    }
    if (whole < 0) return lost(c, "malformed chunks", now);
    if (whole) return complete(c, now);
    if (options.leave && c->events >= options.leave) {
        left_early++;
        disconnect(c);
        next(c, now);
    }
}

static void readable(connection *c) {
    static char buffer[1 << 18];
    ssize_t got = recv(c->fd, buffer, sizeof buffer, 0);
    uint64_t now = now_ns();
    if (got < 0 && errno == EAGAIN) return;
    if (got <= 0) {
        if (c->busy && !c->in_head && c->framing == BY_END && got == 0) return complete(c, now);
        return lost(c, got ? strerror(errno) : "closed early", now);
    }
    if (!c->busy) return lost(c, "bytes that nobody asked for", now);
    take(c, buffer, got, now);
}

static void start_due(void) {
    uint64_t now = now_ns(), step = 1e9 / options.rate;
    while (idle_count && next_due_ns <= now && next_due_ns < ends_ns) {
        begin(&all[idle[--idle_count]], next_due_ns);
        next_due_ns += step;
    }
}

static void turn(int wait_ms) {
    struct epoll_event ready[256];
    int found = epoll_wait(epoll, ready, 256, wait_ms);
    for (int i = 0; i < found; i++) {
        connection *c = ready[i].data.ptr;
        if (c->fd < 0) continue;
        if (ready[i].events & EPOLLOUT) {
            if (send_rest(c)) {
                lost(c, strerror(errno), now_ns());
                continue;
            }
            stop_watching_out(c);
        }
        if (ready[i].events & ~EPOLLOUT) readable(c);
    }
}

static void read_requests(void) {
    FILE *file = fopen(options.file, "rb");
    unsigned char prefix[4];
    if (!file) die("cannot read the file of --requests");
    while (fread(prefix, 1, 4, file) == 4) {
        size_t length = prefix[0] | prefix[1] << 8 | prefix[2] << 16 | (size_t)prefix[3] << 24;
        char *bytes = malloc(length + 1);
        if (!bytes || fread(bytes, 1, length, file) != length) die("the file of --requests ends within a request");
        requests = realloc(requests, (request_count + 1) * sizeof *requests);
        requests[request_count++] = (request){bytes, length};
    }
    fclose(file);
    if (!request_count) die("the file of --requests is empty");
}

static void read_options(int argc, char **argv) {
    static const struct option known[] = {
        {"port", 1, 0, 'p'}, {"connections", 1, 0, 'c'}, {"seconds", 1, 0, 's'}, {"requests", 1, 0, 'f'},
        {"warmup", 1, 0, 'w'}, {"events", 1, 0, 'e'}, {"leave", 1, 0, 'l'}, {"rate", 1, 0, 'r'}, {"hold", 0, 0, 'h'},
        {"ramp", 1, 0, 'm'}, {0, 0, 0, 0}};
    for (int option; (option = getopt_long(argc, argv, "", known, NULL)) != -1;) switch (option) {
        case 'p': options.port = atoi(optarg); break;
        case 'c': options.connections = atoi(optarg); break;
        case 's': options.seconds = atof(optarg); break;
        case 'f': options.file = optarg; break;
        case 'w': options.warmup = atof(optarg); break;
        case 'e': options.events = atol(optarg); break;
        case 'l': options.leave = atol(optarg); break;
        case 'r': options.rate = atof(optarg); break;
        case 'h': options.hold = 1; break;
        case 'm': options.ramp = atof(optarg); break;
        default: die("unknown option");
    }
    if (options.port < 1 || options.connections < 1 || options.seconds <= 0 || !options.file)
        die("--port, --connections, --seconds and --requests are needed");
}

/* Opens all streams, says how many there are, and keeps them for --seconds. */
static void hold_open(void) {
    uint64_t began = now_ns(), give_up = 0;
    int tried = 0;
    counting_from = began;
    ends_ns = UINT64_MAX;
    while (ends_ns && (tried < options.connections || opened + failed < (uint64_t)tried)) {
        uint64_t now = now_ns();
        int wanted = (now - began) / 1e9 * options.ramp + 1;
        for (; tried < wanted && tried < options.connections; tried++)
            if (!connect_one(&all[tried])) begin(&all[tried], now_ns());
        if (tried == options.connections && !give_up) give_up = now + 10ull * PATIENCE_S * 1000000000;
        if (give_up && now > give_up) break;
        turn(1);
    }
    printf("{\"open\":%lu,\"failed\":%lu,\"why\":\"%s\"}\n", opened, failed, first_failure);
    fflush(stdout);
    counting_from = now_ns();
    uint64_t until = counting_from + options.seconds * 1e9;
    while (ends_ns && now_ns() < until) turn(50);
}

static void run(void) {
    uint64_t began = now_ns();
    counting_from = began + options.warmup * 1e9;
    ends_ns = counting_from + options.seconds * 1e9;
    next_due_ns = began;
    for (int i = 0; i < options.connections; i++) {
        if (connect_one(&all[i])) continue;
        if (options.rate > 0) idle[idle_count++] = i;
        else begin(&all[i], now_ns());
    }
    while (now_ns() < ends_ns && (busy_count || options.rate > 0)) {
        if (options.rate > 0) start_due();
        turn(options.rate > 0 ? 1 : 100);
    }
    uint64_t patience = now_ns() + PATIENCE_S * 1000000000ull;
    while (busy_count && now_ns() < patience) turn(50); /* what is under way ends in peace, uncounted */
}

int main(int argc, char **argv) {
    read_options(argc, argv);
    signal(SIGPIPE, SIG_IGN);
    read_requests();
    epoll = epoll_create1(0);
    all = calloc(options.connections, sizeof *all);
    idle = calloc(options.connections, sizeof *idle);
    for (int i = 0; i < options.connections; i++) all[i].fd = -1, all[i].slot = i;
    if (options.hold) hold_open();
    else run();
    printf("{\"connections\":%d,\"seconds\":%.3f,\"done\":%lu,\"failed\":%lu,\"bad_status\":%lu,\"reconnects\":%lu,"
           "\"left\":%lu,\"stuck\":%d,\"open\":%lu,\"events\":%lu,\"bytes\":%lu,\"why\":\"%s\"",
        options.connections, options.seconds, done, failed, bad_status, reconnects, left_early,
        options.hold ? 0 : busy_count, opened, events_seen, bytes_seen, first_failure);
    print_histogram("latency_us", &latency);
    print_histogram("first_byte_us", &first_byte);
    print_histogram("gap_us", &gap);
    puts("}");
    return 0;
}
