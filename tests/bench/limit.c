/* The physical limit: the same service in C on epoll, with one shared log, as little as can be.
 *
 * The service is the chat server's: a greeting, lines of at most 1024 bytes, each goes to everybody with the sender's
 * address in front. What is read in one turn is laid down in one log, and then each client is sent everything since its
 * cursor in one send. No journal, no options, no timeouts, no \r, no care for UTF-8; who falls more than 16 MiB behind is dropped.
 *
 * It prints its port and runs until it is killed.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LIMIT = 1024, RECEIVE = 64 << 10, MAX_LAG = 16 << 20, LOG = 64 << 20, EVENTS = 1024 };

static const char GREETING[] = "Welcome to the limit.\n";

struct client {
    struct client *next, *previous;
    int fd, blocked, prefix_size, rest_size;
    uint64_t cursor;                /* how many bytes had been laid down before this place */
    char prefix[INET_ADDRSTRLEN + 2];
    char *rest;                     /* of a line that is not complete yet; NULL while there is none */
};

static struct client all = {.next = &all, .previous = &all}, *gone;
static int poller;
static char *log_bytes;
static uint64_t base, end;          /* log_bytes[0] is byte number `base`, and `end` is the next to be laid down */

static void must(int well, const char *what) {
    if (!well) {
        perror(what);
        exit(1);
    }
}

static void watch(struct client *client, uint32_t events, int how) {
    struct epoll_event event = {.events = events, .data.ptr = client};
    must(epoll_ctl(poller, how, client->fd, &event) == 0, "epoll_ctl");
}

static void drop(struct client *client) {
    close(client->fd);
    client->previous->next = client->next;
    client->next->previous = client->previous;
    client->fd = -1;
    client->next = gone;            /* freed after the turn: an event of this turn may still name it */
    gone = client;
}

static void deliver(struct client *client) {
    while (client->cursor < end) {
        ssize_t sent = send(client->fd, log_bytes + (client->cursor - base), end - client->cursor, MSG_NOSIGNAL);
        if (sent < 0) {
            if (errno != EAGAIN) {
                drop(client);
                return;
            }
            if (!client->blocked)
                watch(client, EPOLLIN | EPOLLOUT, EPOLL_CTL_MOD);
            client->blocked = 1;
            return;
        }
        client->cursor += sent;
    }
    if (client->blocked)
        watch(client, EPOLLIN, EPOLL_CTL_MOD);
    client->blocked = 0;
}

static void lay_down(const char *data, size_t size) {
    memcpy(log_bytes + (end - base), data, size);
    end += size;
}

/* One complete line, or a full part of a longer one. */
static void publish(struct client *client, const char *line, size_t size) {
    lay_down(client->prefix, client->prefix_size);
    lay_down(line, size);
    lay_down("\n", 1);
}

static void split(struct client *client, const char *data, size_t size) {
    while (size) {
        const char *newline = memchr(data, '\n', size);
        size_t line = newline ? (size_t)(newline - data) : size;
        size_t taken = line < (size_t)(LIMIT - client->rest_size) ? line : (size_t)(LIMIT - client->rest_size);
        int complete = newline && taken == line;
        if (complete && !client->rest_size) {
            publish(client, data, line);
        } else {
            if (!client->rest)
                must((client->rest = malloc(LIMIT)) != NULL, "malloc");
            memcpy(client->rest + client->rest_size, data, taken);
            client->rest_size += taken;
            if (complete || taken < line) {
                publish(client, client->rest, client->rest_size);
                client->rest_size = 0;
            }
        }
        data += taken + complete;
        size -= taken + complete;
    }
    if (!client->rest_size && client->rest) {
        free(client->rest);
        client->rest = NULL;
    }
}

static void admit(int listener) {
    for (int i = 0; i < 64; i++) {
        struct sockaddr_in address;
        socklen_t size = sizeof address;
        int fd = accept4(listener, (struct sockaddr *)&address, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0)
            return;
        struct client *client = calloc(1, sizeof *client);
        must(client != NULL, "calloc");
        client->fd = fd;
        client->cursor = end;
        inet_ntop(AF_INET, &address.sin_addr, client->prefix, sizeof client->prefix);
        client->prefix_size = strlen(strcat(client->prefix, ": "));
        client->next = &all;
        client->previous = all.previous;
        all.previous = all.previous->next = client;
        watch(client, EPOLLIN, EPOLL_CTL_ADD);
        if (send(fd, GREETING, sizeof GREETING - 1, MSG_NOSIGNAL) < 0)
            client->cursor = end;   /* it has gone already; its recv will say so */
    }
}

int main(void) {
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    must((log_bytes = malloc(LOG)) != NULL, "malloc");

    int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1;
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_ANY)};
    socklen_t size = sizeof address;
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);   /* accepted sockets inherit it */
    must(bind(listener, (struct sockaddr *)&address, size) == 0, "bind");
    must(listen(listener, 1024) == 0, "listen");
    getsockname(listener, (struct sockaddr *)&address, &size);
    printf("limit listens on port %d\n", ntohs(address.sin_port));
    fflush(stdout);

    must((poller = epoll_create1(EPOLL_CLOEXEC)) >= 0, "epoll_create1");
    struct epoll_event event = {.events = EPOLLIN}, events[EVENTS];
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    static char data[RECEIVE];
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        uint64_t old = end;
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                admit(listener);
                continue;
            }
            if (client->fd >= 0 && events[i].events & EPOLLOUT)
                deliver(client);
            if (client->fd >= 0 && events[i].events & ~EPOLLOUT && end - base < LOG / 2) {
                ssize_t received = recv(client->fd, data, RECEIVE, 0);
                if (received > 0)
                    split(client, data, received);
                else if (received == 0 || errno != EAGAIN)
                    drop(client);
            }
        }
        uint64_t first = end;       /* what is before it, nobody needs any more */
        for (struct client *client = all.next, *next; client != &all && end != old; client = next) {
            next = client->next;
            if (!client->blocked)
                deliver(client);
            else if (end - client->cursor > MAX_LAG)
                drop(client);
            if (client->fd >= 0 && client->cursor < first)
                first = client->cursor;
        }
        if (end != old && (first == end || first - base > LOG / 4)) {
            memmove(log_bytes, log_bytes + (first - base), end - first);
            base = first;
        }
        for (struct client *client; (client = gone);) {
            gone = client->next;
            free(client->rest);
            free(client);
        }
    }
}
