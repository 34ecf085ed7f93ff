/*
 * worker_registry.h
 *	  What the launcher, its workers and the sessions know of each other.
 *
 * It lies in shared memory, and only there: without preloading there is no
 * launcher, and everything here does nothing.  One lock guards all of it, held
 * for a few assignments, by who writes and by who signals a worker alike, so a
 * process that is signalled is the one that was meant.
 *
 * Nothing that must not be lost depends on it: which job is due and which runs
 * is in the table smartbox.jobs.
 */
#ifndef SBA_PG_WORKER_REGISTRY_H
#define SBA_PG_WORKER_REGISTRY_H

#include "datatype/timestamp.h"
#include "storage/lwlock.h"

#define SBA_MAX_WORKED_DATABASES 64
#define SBA_MAX_JOB_WORKERS 64

/* Workers in one database at a time: a long job does not hold up the others. */
#define SBA_JOB_WORKERS_PER_DATABASE 4

typedef enum SbaDatabaseState
{
	SBA_DATABASE_STARTING,		/* no worker was there yet */
	SBA_DATABASE_WORKING,
	SBA_DATABASE_WITHOUT_EXTENSION,
	SBA_DATABASE_OTHER_VERSION	/* the extension's is not the library's */
} SbaDatabaseState;

typedef struct SbaWorkedDatabase
{
	Oid			database;		/* InvalidOid: the entry is free */
	SbaDatabaseState state;
	TimestampTz checked_at;		/* when a worker last looked at its jobs */
	TimestampTz next_due;		/* when one has to be started */
	int			check_ins;		/* how often one has looked */
	int			pauses;			/* statements that want no worker there */
	bool		has_new_alerts;
} SbaWorkedDatabase;

typedef struct SbaJobWorker
{
	pid_t		pid;			/* 0: the entry is free */
	Oid			database;
	bool		has_checked_in;
} SbaJobWorker;

typedef struct SbaWorkerRegistry
{
	pid_t		launcher_pid;	/* 0: it does not run */
	bool		databases_changed;	/* the launcher has to look which there
									 * are */
	TimestampTz no_worker_free_since;	/* 0: the last one could be started */
	SbaWorkedDatabase databases[SBA_MAX_WORKED_DATABASES];
	SbaJobWorker workers[SBA_MAX_JOB_WORKERS];
} SbaWorkerRegistry;

/* For who provides the shared memory: its size, and where it is. */
extern Size sba_worker_registry_size(void);
extern void sba_worker_registry_attach(void *memory, bool is_new, LWLock *lock);

/* Whether there is one. */
extern bool sba_has_worker_registry(void);

/* Look at it, or change it.  Only when there is one. */
extern SbaWorkerRegistry *sba_lock_worker_registry(LWLockMode mode);
extern void sba_unlock_worker_registry(void);

/* The entry of a database, or NULL.  Under the lock. */
extern SbaWorkedDatabase *sba_find_worked_database(SbaWorkerRegistry *registry, Oid database);

/* How many workers a database has.  Under the lock. */
extern int	sba_count_job_workers(const SbaWorkerRegistry *registry, Oid database);

/* Have the launcher look what there is to do. */
extern void sba_wake_launcher(void);

/*
 * At the commit of the current transaction: have the jobs of this database
 * looked at, for alerts or for another reason; have the databases looked at.
 */
extern void sba_wake_for_jobs_at_commit(bool has_new_alerts);
extern void sba_wake_for_databases_at_commit(void);

/*
 * End the workers of a database and keep them away until the current
 * transaction ends.  Waits for a few seconds at most until they have gone.
 */
extern void sba_pause_workers(Oid database);

#endif							/* SBA_PG_WORKER_REGISTRY_H */
