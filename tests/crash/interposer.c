/* What a process and its children do to files below one folder, counted; the Nth of these operations fails.

   gcc -shared -fPIC -O1 -o interposer.so interposer.c, then LD_PRELOAD=interposer.so. CRASH_STATE names a file of struct
   state, shared by all processes, which crash_create makes. Without it nothing is counted. Linux alone.

   The operations are serialised by one lock, so the journal has them in the order in which they happened. Writes
   through a memory map are no operations: what is mapped counts as written where the file is made longer. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { NONE, KILL, ENOSPC_FROM, EIO_ONCE, SHORT, UNSYNCED };
enum { OPEN, CREATE, WRITE, GROW, SYNC, RENAME, UNLINK, MKDIR, RMDIR, LINK };
static const char *NAMES[] = {"open", "create", "write", "grow", "sync", "rename", "unlink", "mkdir", "rmdir", "link"};

struct state {
  long count, fired, n, fault, shadows;
  pthread_mutex_t lock;
  char root[PATH_MAX], journal[PATH_MAX], shadow[PATH_MAX];
};
static struct state *S;

static int raw_open(const char *path, int flags, int mode) { return syscall(SYS_openat, AT_FDCWD, path, flags, mode); }

static void attach(const char *path) {
  int fd = raw_open(path, O_RDWR | O_CLOEXEC, 0);
  if (fd < 0) return;
  void *at = mmap(NULL, sizeof(struct state), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
  syscall(SYS_close, fd);
  if (at != MAP_FAILED) S = at;
}

/* Makes the state, in which nothing is counted yet, and counts from here on. journal: "" or a file that grows. */
int crash_create(const char *path, const char *root, const char *journal, const char *shadow, long fault, long n) {
  int fd = raw_open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
  if (fd < 0 || syscall(SYS_ftruncate, fd, sizeof(struct state))) return -1;
  syscall(SYS_close, fd);
  S = NULL;
  attach(path);
  if (!S) return -1;
  strncpy(S->root, root, PATH_MAX - 1);
  strncpy(S->journal, journal, PATH_MAX - 1);
  strncpy(S->shadow, shadow, PATH_MAX - 1);
  S->fault = fault, S->n = n;
  pthread_mutexattr_t a;
  pthread_mutexattr_init(&a);
  pthread_mutexattr_setpshared(&a, PTHREAD_PROCESS_SHARED);
  pthread_mutexattr_setrobust(&a, PTHREAD_MUTEX_ROBUST);
  pthread_mutex_init(&S->lock, &a);
  setenv("CRASH_STATE", path, 1);
  return 0;
}

__attribute__((constructor)) static void start(void) {
  const char *path = getenv("CRASH_STATE");
  if (path) attach(path);
}

/* ---- Names */

/* The folder of a name with links resolved, and its last part; 0 where it does not lie below the root. */
static int below(int at, const char *path, char *out) {
  char whole[2 * PATH_MAX], folder[PATH_MAX];
  if (!S || !path || !*path) return 0;
  if (path[0] == '/' ) snprintf(whole, sizeof whole, "%s", path);
  else if (at == AT_FDCWD) {
    if (syscall(SYS_getcwd, folder, sizeof folder) < 0) return 0;
    snprintf(whole, sizeof whole, "%s/%s", folder, path);
  } else {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", at);
    ssize_t n = readlink(link, folder, sizeof folder - 1);
    if (n < 0) return 0;
    folder[n] = 0;
    snprintf(whole, sizeof whole, "%s/%s", folder, path);
  }
  size_t n = strlen(whole);
  while (n > 1 && whole[n - 1] == '/') whole[--n] = 0;
  char *last = strrchr(whole, '/');
  if (!last) return 0;
  *last = 0;
  if (!realpath(*whole ? whole : "/", folder)) return 0;
  snprintf(out, PATH_MAX, "%s/%s", folder, last + 1);
  size_t r = strlen(S->root);
  return !strncmp(out, S->root, r) && out[r] == '/';
}

static int below_fd(int fd, char *out) {
  char link[64];
  if (!S) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, out, PATH_MAX - 1);
  if (n < 0) return 0;
  out[n] = 0;
  size_t r = strlen(S->root);
  return !strncmp(out, S->root, r) && (out[r] == '/' || !out[r]);
}

/* ---- The lock, the journal, the fault */

static void lock(void) {
  if (pthread_mutex_lock(&S->lock) == EOWNERDEAD) pthread_mutex_consistent(&S->lock);
}
static void unlock(void) { pthread_mutex_unlock(&S->lock); }

static void note(const char *format, ...) {
  if (!S->journal[0]) return;
  char line[3 * PATH_MAX];
  va_list rest;
  va_start(rest, format);
  int n = vsnprintf(line, sizeof line - 1, format, rest);
  va_end(rest);
  int saved = errno, fd = raw_open(S->journal, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
  if (fd >= 0) {
    line[n] = '\n';
    syscall(SYS_write, fd, line, n + 1);
    syscall(SYS_close, fd);
  }
  errno = saved;
}

static void die(void) {
  syscall(SYS_kill, 0, SIGKILL);
  syscall(SYS_kill, getpid(), SIGKILL);
  for (;;) pause();
}

static int allocates(int kind) {
  return kind == CREATE || kind == WRITE || kind == GROW || kind == MKDIR || kind == LINK;
}

/* Counts an operation and leaves the lock held. Returns 0, or the errno that it shall fail with; -1: a write of which
   half is done before the fault. */
static int begin(int kind, const char *path, size_t bytes) {
  lock();
  int fatal = S->fault == KILL || S->fault == UNSYNCED;
  if (fatal && S->fired) die(); /* a process that got away */
  if (S->fault == ENOSPC_FROM && !allocates(kind) && kind != SYNC) return 0;
  if (S->fault == SHORT && kind != WRITE) return 0;
  long now = ++S->count;
  note("op\t%ld\t%s\t%s", now, NAMES[kind], path);
  if (S->fault == NONE || S->n <= 0) return 0;
  if (fatal && now == S->n) {
    S->fired = 1;
    if (kind == WRITE && bytes > 1) return -1;
    die();
  }
  if (S->fault == ENOSPC_FROM && now >= S->n) {
    if (!S->fired++ && kind == WRITE && bytes > 1) return -1;
    return allocates(kind) || now == S->n ? ENOSPC : 0;
  }
  if (S->fault == EIO_ONCE && now == S->n) return S->fired = 1, EIO;
  if (S->fault == SHORT && now >= S->n) {
    S->fired++;
    if (now % 3 == 0) return EINTR;
    return bytes > 1 ? -1 : 0;
  }
  return 0;
}

static int failed(int error) {
  unlock();
  errno = error;
  return -1;
}

static unsigned long inode(const char *path, mode_t *mode, long *size) {
  struct stat s;
  if (lstat(path, &s)) return 0;
  if (mode) *mode = s.st_mode;
  if (size) *size = s.st_size;
  return s.st_ino;
}

static unsigned long parent(const char *path) {
  char folder[PATH_MAX];
  snprintf(folder, sizeof folder, "%s", path);
  *strrchr(folder, '/') = 0;
  return inode(folder, NULL, NULL);
}

static const char *base(const char *path) { return strrchr(path, '/') + 1; }

/* A second name for what is about to lose its name, so that it can get it back; 0: none. */
static long keep(const char *path) {
  mode_t mode;
  if (S->fault != UNSYNCED || !inode(path, &mode, NULL) || S_ISDIR(mode)) return 0;
  char other[PATH_MAX + 32];
  long number = ++S->shadows;
  snprintf(other, sizeof other, "%s/%ld", S->shadow, number);
  return syscall(SYS_linkat, AT_FDCWD, path, AT_FDCWD, other, 0) ? 0 : number;
}

/* ---- Open */

static int open_at(int at, const char *path, int flags, int mode) {
  char name[PATH_MAX];
  int writes = (flags & O_ACCMODE) != O_RDONLY || (flags & (O_CREAT | O_TRUNC));
  if (!writes || (flags & O_TMPFILE) == O_TMPFILE || !below(at, path, name)) return syscall(SYS_openat, at, path, flags, mode);
  long before = 0;
  int there = inode(name, NULL, &before) != 0;
  int error = begin(there ? OPEN : CREATE, name, 0);
  if (error) return failed(error);
  int fd = syscall(SYS_openat, at, path, flags, mode);
  if (fd >= 0) {
    if (!there) note("create\t%lu\t%s", parent(name), base(name));
    note("dirty\t%lu\t%ld", inode(name, NULL, NULL), flags & O_TRUNC || !there ? 0 : before);
  }
  int saved = errno;
  unlock();
  errno = saved;
  return fd;
}

#define MODE                                   \
  int mode = 0;                                \
  if (flags & (O_CREAT | O_TMPFILE)) {         \
    va_list rest;                              \
    va_start(rest, flags);                     \
    mode = va_arg(rest, int);                  \
    va_end(rest);                              \
  }
int open(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE return open_at(AT_FDCWD, path, flags | O_LARGEFILE, mode); }
int openat(int at, const char *path, int flags, ...) { MODE return open_at(at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE return open_at(at, path, flags | O_LARGEFILE, mode); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static FILE *fopen_by(const char *which, const char *path, const char *mode) {
  FILE *(*real)(const char *, const char *) = dlsym(RTLD_NEXT, which);
  char name[PATH_MAX];
  if (!(strpbrk(mode, "wa+")) || !below(AT_FDCWD, path, name)) return real(path, mode);
  long before = 0;
  int there = inode(name, NULL, &before) != 0;
  int error = begin(there ? OPEN : CREATE, name, 0);
  if (error) return failed(error), NULL;
  FILE *file = real(path, mode);
  if (file) {
    if (!there) note("create\t%lu\t%s", parent(name), base(name));
    note("dirty\t%lu\t%ld", inode(name, NULL, NULL), mode[0] == 'w' || !there ? 0 : before);
  }
  int saved = errno;
  unlock();
  errno = saved;
  return file;
}
FILE *fopen(const char *path, const char *mode) { return fopen_by("fopen", path, mode); }
FILE *fopen64(const char *path, const char *mode) { return fopen_by("fopen64", path, mode); }

/* ---- Write. CALL does `count` bytes and leaves what it returns in `done`. */

#define WRITING(FD, BYTES, CALL)                                          \
  char name[PATH_MAX];                                                    \
  size_t count = (BYTES);                                                 \
  ssize_t done;                                                           \
  if (!below_fd(FD, name)) { done = CALL; return done; }                  \
  int error = begin(WRITE, name, count);                                  \
  if (error > 0) return failed(error);                                    \
  if (error < 0) count /= 2;                                              \
  done = CALL;                                                            \
  if (error < 0 && (S->fault == KILL || S->fault == UNSYNCED)) die();     \
  int saved = errno;                                                      \
  unlock();                                                               \
  errno = saved;                                                          \
  return done;

ssize_t write(int fd, const void *data, size_t bytes) { WRITING(fd, bytes, syscall(SYS_write, fd, data, count)) }
ssize_t pwrite(int fd, const void *data, size_t bytes, off_t at) {
  WRITING(fd, bytes, syscall(SYS_pwrite64, fd, data, count, at))
}
ssize_t pwrite64(int fd, const void *data, size_t bytes, off64_t at) { return pwrite(fd, data, bytes, at); }

/* Of several pieces the first alone is done where half is asked for. */
ssize_t writev(int fd, const struct iovec *parts, int n) {
  WRITING(fd, n, n > 1 ? syscall(SYS_writev, fd, parts, (int)count) : syscall(SYS_writev, fd, parts, n))
}
ssize_t sendfile(int to, int from, off_t *at, size_t bytes) { WRITING(to, bytes, syscall(SYS_sendfile, to, from, at, count)) }
ssize_t sendfile64(int to, int from, off64_t *at, size_t bytes) { return sendfile(to, from, at, bytes); }
ssize_t copy_file_range(int from, off64_t *a, int to, off64_t *b, size_t bytes, unsigned flags) {
  WRITING(to, bytes, syscall(SYS_copy_file_range, from, a, to, b, count, flags))
}

/* A library's own buffer: never short, as its callers take that for an error. */
size_t fwrite(const void *data, size_t size, size_t n, FILE *file) {
  static size_t (*real)(const void *, size_t, size_t, FILE *);
  if (!real) real = dlsym(RTLD_NEXT, "fwrite");
  char name[PATH_MAX];
  if (!S || S->fault == SHORT || !below_fd(fileno(file), name)) return real(data, size, n, file);
  int error = begin(WRITE, name, n);
  if (error > 0) return failed(error), 0;
  size_t done = real(data, size, error < 0 ? n / 2 : n, file);
  if (error < 0) {
    fflush(file);
    if (S->fault == KILL || S->fault == UNSYNCED) die();
    unlock();
    errno = ENOSPC;
    return done;
  }
  unlock();
  return done;
}

/* ---- The length, and what is safe */

static int grow(int fd, off_t length, int (*call)(int, off_t)) {
  char name[PATH_MAX];
  if (!below_fd(fd, name)) return call(fd, length);
  int error = begin(GROW, name, 0);
  if (error) return failed(error);
  int done = call(fd, length), saved = errno;
  unlock();
  errno = saved;
  return done;
}
static int raw_ftruncate(int fd, off_t length) { return syscall(SYS_ftruncate, fd, length); }
static int raw_fallocate(int fd, off_t length) { return syscall(SYS_fallocate, fd, 0, 0, length); }
int ftruncate(int fd, off_t length) { return grow(fd, length, raw_ftruncate); }
int ftruncate64(int fd, off64_t length) { return grow(fd, length, raw_ftruncate); }
int posix_fallocate(int fd, off_t at, off_t length) { return grow(fd, at + length, raw_fallocate) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t length) { return posix_fallocate(fd, at, length); }

static int sync_by(long number, int fd) {
  char name[PATH_MAX];
  if (!below_fd(fd, name)) return syscall(number, fd);
  int error = begin(SYNC, name, 0);
  if (error) return failed(error);
  struct stat s;
  int done = syscall(number, fd), saved = errno;
  if (!done && !fstat(fd, &s)) {
    if (S_ISDIR(s.st_mode)) note("names\t%lu", s.st_ino);
    else note("synced\t%lu\t%ld", s.st_ino, (long)s.st_size);
  }
  unlock();
  errno = saved;
  return done;
}
int fsync(int fd) { return sync_by(SYS_fsync, fd); }
int fdatasync(int fd) { return sync_by(SYS_fdatasync, fd); }

/* ---- Names */

static int rename_at(int a, const char *from, int b, const char *to, unsigned flags) {
  char one[PATH_MAX], two[PATH_MAX];
  if (!below(a, from, one) | !below(b, to, two)) return syscall(SYS_renameat2, a, from, b, to, flags);
  int error = begin(RENAME, two, 0);
  if (error) return failed(error);
  unsigned long was = parent(one), is = parent(two);
  long kept = keep(two);
  int done = syscall(SYS_renameat2, a, from, b, to, flags), saved = errno;
  if (!done) note("rename\t%lu\t%s\t%lu\t%s\t%ld\t%u", was, base(one), is, base(two), kept, flags);
  unlock();
  errno = saved;
  return done;
}
int rename(const char *from, const char *to) { return rename_at(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return rename_at(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return rename_at(a, from, b, to, flags); }

static int unlink_at(int at, const char *path, int flags) {
  char name[PATH_MAX];
  if (!below(at, path, name)) return syscall(SYS_unlinkat, at, path, flags);
  int folder = flags & AT_REMOVEDIR;
  if (!inode(name, NULL, NULL)) return syscall(SYS_unlinkat, at, path, flags);
  int error = begin(folder ? RMDIR : UNLINK, name, 0);
  if (error) return failed(error);
  unsigned long number = inode(name, NULL, NULL);
  long kept = folder ? 0 : keep(name);
  int done = syscall(SYS_unlinkat, at, path, flags), saved = errno;
  if (!done) note(folder ? "rmdir\t%lu\t%s\t%lu" : "unlink\t%lu\t%s\t%lu\t%ld", parent(name), base(name), number, kept);
  unlock();
  errno = saved;
  return done;
}
int unlink(const char *path) { return unlink_at(AT_FDCWD, path, 0); }
int unlinkat(int at, const char *path, int flags) { return unlink_at(at, path, flags); }
int rmdir(const char *path) { return unlink_at(AT_FDCWD, path, AT_REMOVEDIR); }
int remove(const char *path) {
  int done = unlink(path);
  return done && errno == EISDIR ? rmdir(path) : done;
}

int mkdirat(int at, const char *path, mode_t mode) {
  char name[PATH_MAX];
  if (!below(at, path, name) || inode(name, NULL, NULL)) return syscall(SYS_mkdirat, at, path, mode);
  int error = begin(MKDIR, name, 0);
  if (error) return failed(error);
  int done = syscall(SYS_mkdirat, at, path, mode), saved = errno;
  if (!done) note("create\t%lu\t%s", parent(name), base(name));
  unlock();
  errno = saved;
  return done;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int a, const char *from, int b, const char *to, int flags) {
  char name[PATH_MAX];
  if (!below(b, to, name)) return syscall(SYS_linkat, a, from, b, to, flags);
  int error = begin(LINK, name, 0);
  if (error) return failed(error);
  int done = syscall(SYS_linkat, a, from, b, to, flags), saved = errno;
  if (!done) note("create\t%lu\t%s", parent(name), base(name));
  unlock();
  errno = saved;
  return done;
}
int link(const char *from, const char *to) { return linkat(AT_FDCWD, from, AT_FDCWD, to, 0); }
int symlinkat(const char *what, int at, const char *path) {
  char name[PATH_MAX];
  if (!below(at, path, name)) return syscall(SYS_symlinkat, what, at, path);
  int error = begin(LINK, name, 0);
  if (error) return failed(error);
  int done = syscall(SYS_symlinkat, what, at, path), saved = errno;
  if (!done) note("create\t%lu\t%s", parent(name), base(name));
  unlock();
  errno = saved;
  return done;
}
int symlink(const char *what, const char *path) { return symlinkat(what, AT_FDCWD, path); }
