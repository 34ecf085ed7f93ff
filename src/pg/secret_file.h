/*
 * secret_file.h
 *	  Passwords, tokens and keys, which are in files that nobody else can read.
 */
#ifndef SBA_PG_SECRET_FILE_H
#define SBA_PG_SECRET_FILE_H

#include "pg/problem.h"

/*
 * The one line of a file, palloc'ed, without the line's end.  The file must
 * be the server user's own or root's, and closed to others, as PostgreSQL
 * asks of a TLS key.  NULL with *problem set when it cannot be had; setting is
 * the configuration parameter that names the file.
 */
extern char *sba_read_secret(const char *path, const char *setting, SbaProblem *problem);

/* Whether a file that somebody else will read meets the same conditions. */
extern bool sba_check_secret_file(const char *path, const char *setting, SbaProblem *problem);

/* Overwrite a secret and free it; NULL is nothing to do. */
extern void sba_forget_secret(char *secret);

#endif							/* SBA_PG_SECRET_FILE_H */
