/* The physical limit: the same service in C on epoll, with one shared log, as little as can be.
 *
 * The service is the chat server's: a greeting, lines of at most 1024 bytes, each goes to everybody with the sender's
 * address in front. What is read in one turn is laid down in one log, and then each client is sent everything since its
 * cursor in one send. No journal, no options, no timeouts, no \r, no care for UTF-8; who falls more than 16 MiB behind is dropped.
 *
 *     limit          everybody hears everybody
 *     limit rooms    a client's first line is a digit, its room; a log for each room
 *     limit tell     each line is copied to each client, as one for it alone
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

enum { LIMIT = 1024, RECEIVE = 64 << 10, MAX_LAG = 16 << 20, LOG = 64 << 20, EVENTS = 1024, ROOMS = 10 };

static const char GREETING[] = "Welcome to the limit.\n";

struct client {
    struct client *next, *previous; /* of its room */
    struct room *room;
    int fd, blocked, prefix_size, rest_size;
    uint64_t cursor;                /* how many bytes had been laid down in its room before this place */
    char prefix[INET_ADDRSTRLEN + 2];
    char *rest;                     /* of a line that is not complete yet; NULL while there is none */
    char *told;                     /* lines for this client alone */
    size_t told_size, told_room;
};

struct room {
    struct client all;              /* the head of a ring */
    char *log;
    uint64_t base, end, old;        /* log[0] is byte number `base`; `end` is the next to be laid down, `old` was it */
};

static struct room rooms[ROOMS];
static struct client *gone;
static int poller, choosing, telling;

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

static void leave(struct client *client) {
    if (client->room) {
        client->previous->next = client->next;
        client->next->previous = client->previous;
    }
}

static void drop(struct client *client) {
    close(client->fd);
    leave(client);
    client->fd = -1;
    client->next = gone;            /* freed after the turn: an event of this turn may still name it */
    gone = client;
}

static void enter(struct client *client, struct room *room) {
    client->room = room;
    client->cursor = room->end;
    client->next = &room->all;
    client->previous = room->all.previous;
    room->all.previous = room->all.previous->next = client;
    if (send(client->fd, GREETING, sizeof GREETING - 1, MSG_NOSIGNAL) < 0)
        client->cursor = room->end; /* it has gone already; its recv will say so */
}

static void deliver(struct client *client) {
    struct room *room = client->room;
    while (client->told_size || client->cursor < room->end) {
        const char *due = client->told_size ? client->told : room->log + (client->cursor - room->base);
        size_t size = client->told_size ? client->told_size : room->end - client->cursor;
        ssize_t sent = send(client->fd, due, size, MSG_NOSIGNAL);
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
        if (client->told_size)
            memmove(client->told, client->told + sent, client->told_size -= sent);
        else
            client->cursor += sent;
    }
    if (client->blocked)
        watch(client, EPOLLIN, EPOLL_CTL_MOD);
    client->blocked = 0;
}

static void tell(struct client *client, const char *data, size_t size) {
    if (client->told_size + size > client->told_room) {
        client->told_room = 2 * (client->told_size + size);
        must((client->told = realloc(client->told, client->told_room)) != NULL, "realloc");
    }
    memcpy(client->told + client->told_size, data, size);
    client->told_size += size;
}

static void lay_down(struct room *room, const char *data, size_t size) {
    memcpy(room->log + (room->end - room->base), data, size);
    room->end += size;
}

/* One complete line, or a full part of a longer one. */
static void publish(struct client *client, const char *line, size_t size) {
    struct room *room = client->room;
    if (!room) {                    /* it names its room */
        int number = size ? line[0] - '0' : -1;
        enter(client, &rooms[number >= 0 && number < ROOMS ? number : 0]);
        return;
    }
    if (telling) {
        for (struct client *other = room->all.next; other != &room->all; other = other->next) {
            tell(other, client->prefix, client->prefix_size);
            tell(other, line, size);
            tell(other, "\n", 1);
        }
        return;
    }
    lay_down(room, client->prefix, client->prefix_size);
    lay_down(room, line, size);
    lay_down(room, "\n", 1);
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
        inet_ntop(AF_INET, &address.sin_addr, client->prefix, sizeof client->prefix);
        client->prefix_size = strlen(strcat(client->prefix, ": "));
        watch(client, EPOLLIN, EPOLL_CTL_ADD);
        if (!choosing)
            enter(client, &rooms[0]);
    }
}

/* Everybody in the room is sent what has been laid down, or told, since the last turn. */
static void spread(struct room *room) {
    uint64_t first = room->end;     /* what is before it, nobody needs any more */
    for (struct client *client = room->all.next, *next; client != &room->all; client = next) {
        next = client->next;
        if (!client->blocked)
            deliver(client);
        else if (room->end - client->cursor + client->told_size > MAX_LAG)
            drop(client);
        if (client->fd >= 0 && client->cursor < first)
            first = client->cursor;
    }
    if (first == room->end || first - room->base > LOG / 4) {
        memmove(room->log, room->log + (first - room->base), room->end - first);
        room->base = first;
    }
    room->old = room->end;
}

int main(int count_of_words, char **words) {
    choosing = count_of_words > 1 && !strcmp(words[1], "rooms");
    telling = count_of_words > 1 && !strcmp(words[1], "tell");
    struct rlimit files;
    getrlimit(RLIMIT_NOFILE, &files);
    files.rlim_cur = files.rlim_max;
    setrlimit(RLIMIT_NOFILE, &files);
    for (int i = 0; i < ROOMS; i++) {
        must((rooms[i].log = malloc(LOG)) != NULL, "malloc");
        rooms[i].all.next = rooms[i].all.previous = &rooms[i].all;
    }

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
        int count = epoll_wait(poller, events, EVENTS, -1), told = 0;
        for (int i = 0; i < count; i++) {
            struct client *client = events[i].data.ptr;
            if (!client) {
                admit(listener);
                continue;
            }
            struct room *room = client->room;
            if (client->fd >= 0 && events[i].events & EPOLLOUT)
                deliver(client);
            if (client->fd >= 0 && events[i].events & ~EPOLLOUT && (!room || room->end - room->base < LOG / 2)) {
                ssize_t received = recv(client->fd, data, RECEIVE, 0);
                if (received > 0)
                    split(client, data, received);
                else if (received == 0 || errno != EAGAIN)
                    drop(client);
                told |= telling;
            }
        }
        for (int i = 0; i < (choosing ? ROOMS : 1); i++)
            if (rooms[i].end != rooms[i].old || told)
                spread(&rooms[i]);
        for (struct client *client; (client = gone);) {
            gone = client->next;
            free(client->rest);
            free(client->told);
            free(client);
        }
    }
}
