/*
 * problem.h
 *	  An error report that is kept, for who decides later what to make of it.
 */
#ifndef SBA_PG_PROBLEM_H
#define SBA_PG_PROBLEM_H

/* Texts are palloc'ed. */
typedef struct SbaProblem
{
	int			sqlstate;		/* 0: there is none */
	char	   *message;
	char	   *detail;			/* or NULL */
	char	   *hint;			/* or NULL */
} SbaProblem;

#endif							/* SBA_PG_PROBLEM_H */
