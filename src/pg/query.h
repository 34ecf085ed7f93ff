/*
 * query.h
 *	  Queries through SPI: kept plans, typed results.
 */
#ifndef SBA_PG_QUERY_H
#define SBA_PG_QUERY_H

#include "executor/spi.h"

#include "core/status.h"

/* A query that is planned once in a session. */
typedef struct SbaQuery
{
	const char *text;
	int			n_arguments;
	Oid			argument_types[16];
	int			expected;		/* SPI_OK_SELECT, SPI_OK_INSERT_RETURNING, ... */
	SPIPlanPtr	plan;
} SbaQuery;

/*
 * Run a query inside SPI_connect; the result is in SPI_tuptable and
 * SPI_processed.  nulls may be NULL; max_rows 0 means all.
 */
extern void sba_query_run(SbaQuery *query, Datum *arguments, const char *nulls, long max_rows);

/* Columns of row (0-based) of SPI_tuptable, by 1-based number. */
extern Datum sba_result_datum(uint64 row, int column, bool *is_null);
extern char *sba_result_text(uint64 row, int column);	/* NULL for null */
extern double sba_result_float8(uint64 row, int column, double when_null);
extern int	sba_result_int4(uint64 row, int column, int when_null);
extern bool sba_result_bool(uint64 row, int column);

/*
 * A procedure that commits cannot have a search_path of its own, so it is
 * pinned around each of its parts.  Returns what AtEOXact_GUC(true, ...) ends.
 */
extern int	sba_pin_search_path(void);

/* Raise what a function of core/ reported. */
extern void sba_report_error(const SbaError *error, const char *what) pg_attribute_noreturn();

#endif							/* SBA_PG_QUERY_H */
