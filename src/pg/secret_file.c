/*
 * secret_file.c
 *	  Passwords, tokens and keys, which are in files that nobody else can read.
 *
 * Nothing is kept: whoever needs a secret reads it, so that a changed file
 * counts from the next use on.
 */
#include "postgres.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "storage/fd.h"

#include "pg/secret_file.h"

#define MAX_SECRET_BYTES 16384

/* What is wrong with the file of a setting. */
static void
set_problem(SbaProblem *problem, int sqlstate, const char *setting, char *message)
{
	problem->sqlstate = sqlstate;
	problem->message = message;
	problem->detail = NULL;
	problem->hint = psprintf("The file is named in %s.", setting);
}

static void
set_file_problem(SbaProblem *problem, const char *setting, const char *path)
{
	int			cause = errno;

	set_problem(problem, ERRCODE_CONFIG_FILE_ERROR, setting,
				psprintf("could not read file \"%s\": %s", path, strerror(cause)));
}

/* The same conditions as of be-secure-common.c for the server's own key. */
static bool
is_private(int fd, const char *path, const char *setting, SbaProblem *problem)
{
	struct stat status;

	if (fstat(fd, &status) != 0)
	{
		set_file_problem(problem, setting, path);
		return false;
	}
	if (!S_ISREG(status.st_mode))
	{
		set_problem(problem, ERRCODE_CONFIG_FILE_ERROR, setting,
					psprintf("file \"%s\" is not a regular file", path));
		return false;
	}
	if (status.st_uid != geteuid() && status.st_uid != 0)
	{
		set_problem(problem, ERRCODE_CONFIG_FILE_ERROR, setting,
					psprintf("file \"%s\" must be owned by the database user or root", path));
		return false;
	}
	if ((status.st_uid == geteuid() && (status.st_mode & (S_IRWXG | S_IRWXO)) != 0) ||
		(status.st_uid == 0 && (status.st_mode & (S_IWGRP | S_IXGRP | S_IRWXO)) != 0))
	{
		set_problem(problem, ERRCODE_CONFIG_FILE_ERROR, setting,
					psprintf("file \"%s\" has group or world access", path));
		problem->detail = pstrdup("File must have permissions u=rw (0600) or less if owned by the database user, or permissions u=rw,g=r (0640) or less if owned by root.");
		return false;
	}
	return true;
}

/* Open a file if it is private; -1 otherwise. */
static int
open_private(const char *path, const char *setting, SbaProblem *problem)
{
	/* a pipe without a writer would hold the session up */
	int			fd = OpenTransientFile(path, O_RDONLY | O_NONBLOCK | PG_BINARY);

	if (fd < 0)
	{
		set_file_problem(problem, setting, path);
		return -1;
	}
	if (!is_private(fd, path, setting, problem))
	{
		CloseTransientFile(fd);
		return -1;
	}
	return fd;
}

bool
sba_check_secret_file(const char *path, const char *setting, SbaProblem *problem)
{
	int			fd = open_private(path, setting, problem);

	if (fd < 0)
		return false;
	CloseTransientFile(fd);
	return true;
}

/* Cut off the end of the line; false when more than a line is there. */
static bool
make_line(char *secret, ssize_t length)
{
	ssize_t		i;

	if (length > 0 && secret[length - 1] == '\n')
		length--;
	if (length > 0 && secret[length - 1] == '\r')
		length--;
	secret[length] = '\0';
	for (i = 0; i < length; i++)
	{
		if ((unsigned char) secret[i] < 0x20 || secret[i] == 0x7F)
			return false;
	}
	return length > 0;
}

char	   *
sba_read_secret(const char *path, const char *setting, SbaProblem *problem)
{
	int			fd = open_private(path, setting, problem);
	char	   *secret;
	ssize_t		length;

	if (fd < 0)
		return NULL;
	secret = palloc0(MAX_SECRET_BYTES + 2);
	length = read(fd, secret, MAX_SECRET_BYTES + 1);
	if (length < 0)
		set_file_problem(problem, setting, path);
	else if (length > MAX_SECRET_BYTES)
		set_problem(problem, ERRCODE_CONFIG_FILE_ERROR, setting,
					psprintf("file \"%s\" is larger than %d bytes", path, MAX_SECRET_BYTES));
	else if (!make_line(secret, length))
		set_problem(problem, ERRCODE_CONFIG_FILE_ERROR, setting,
					psprintf("file \"%s\" does not consist of one line of text", path));
	CloseTransientFile(fd);
	if (problem->sqlstate == 0)
		return secret;
	explicit_bzero(secret, MAX_SECRET_BYTES + 1);
	pfree(secret);
	return NULL;
}

void
sba_forget_secret(char *secret)
{
	if (secret == NULL)
		return;
	explicit_bzero(secret, strlen(secret));
	pfree(secret);
}
