/*
 * incidents.h
 *	  The state machine of incidents of one service, in memory: what
 *	  sql/40-state-machine.sql does with rows, for a replay that writes
 *	  nothing.
 *
 * A change of one is a change of both; test/t/056_backtest_incidents.t
 * compares them.
 */
#ifndef SBA_CORE_INCIDENTS_H
#define SBA_CORE_INCIDENTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/severity.h"
#include "core/status.h"

/* Names of anomalies and of signals, numbered by the caller from 0. */
#define SBA_MAX_SIGNALS 128

typedef struct SbaSignalSet
{
	uint64_t	bits[SBA_MAX_SIGNALS / 64];
} SbaSignalSet;

/* incident_, twelve hex digits and a zero */
#define SBA_INCIDENT_ID_SIZE 22

/* In the order of smartbox.incident_status. */
typedef enum SbaIncidentStatus
{
	SBA_INCIDENT_SUSPECTED,
	SBA_INCIDENT_OPEN,
	SBA_INCIDENT_RECOVERING,
	SBA_INCIDENT_CLOSED
} SbaIncidentStatus;

/* What a detection does to the incident of an anomaly. */
typedef enum SbaIncidentAction
{
	SBA_INCIDENT_CREATE,
	SBA_INCIDENT_CONFIRM,
	SBA_INCIDENT_CONTINUE,
	SBA_INCIDENT_REOPEN
} SbaIncidentAction;

typedef enum SbaResolutionReason
{
	SBA_NOT_RESOLVED,
	SBA_RESOLVED,
	SBA_SUSPECTED_EXPIRED,
	SBA_AUTO_STALE
} SbaResolutionReason;

/* Times are in microseconds, from any instant on. */
typedef struct SbaIncidentRules
{
	int			confirmation_cycles;
	int			resolution_grace_cycles;
	int64_t		separation_us;
} SbaIncidentRules;

/* One thing that is wrong in a detection. */
typedef struct SbaSeenAnomaly
{
	int			name;
	SbaSignalSet signals;		/* its name need not be among them */
	SbaSeverity severity;
	double		score;			/* NaN for none, and so is the confidence */
	double		confidence;
} SbaSeenAnomaly;

typedef struct SbaIncident
{
	char		id[SBA_INCIDENT_ID_SIZE];
	int			name;			/* under which it began */
	SbaIncidentStatus status;
	SbaResolutionReason reason;
	bool		is_confirmed;	/* confirmed_us holds */
	SbaSeverity severity;		/* the worst */
	double		score;			/* the worst */
	double		confidence;		/* of the last detection */
	int64_t		first_seen_us;
	int64_t		last_seen_us;
	int64_t		last_evaluated_us;
	int64_t		confirmed_us;
	int64_t		resolved_us;	/* while it is closed */
	int			occurrence_count;
	int			consecutive_detections;
	int			missed_cycles;
	SbaSignalSet signals;
	int64_t		held_us;		/* of the service, when it was last seen */
} SbaIncident;

/* Writes the id of an incident that begins. */
typedef void (*SbaIdentifyIncident) (void *context, int name, int64_t first_seen_us, char *id);

typedef struct SbaIncidentMachine
{
	SbaIncidentRules rules;
	SbaIdentifyIncident identify;
	void	   *context;
	size_t		n_incidents;
	size_t		capacity;
	SbaIncident *incidents;		/* malloc'ed, in the order of their beginning */
	int			n_active;		/* one for each name at most */
	size_t		active[SBA_MAX_SIGNALS];	/* by first_seen, then id */
	size_t		closed[SBA_MAX_SIGNALS];	/* the last one of each name that
											 * can be reopened, plus 1; or 0 */
	bool		has_cycle;
	int64_t		last_cycle_us;
	int64_t		held_us;		/* time that cycles without data stood for */
} SbaIncidentMachine;

/* What became of an anomaly. */
typedef struct SbaIncidentMove
{
	size_t		incident;		/* in incidents */
	SbaIncidentAction action;
} SbaIncidentMove;

extern void sba_incidents_init(SbaIncidentMachine *machine, const SbaIncidentRules *rules,
							   SbaIdentifyIncident identify, void *context);

/*
 * One cycle, later than the one before it.  moves gets an entry for each
 * anomaly.  Errors: SBA_OUT_OF_MEMORY.
 */
extern SbaStatus sba_incidents_advance(SbaIncidentMachine *machine, int64_t at_us, bool no_data,
									   const SbaSeenAnomaly *anomalies, int n_anomalies,
									   SbaIncidentMove *moves, SbaError *error);

extern void sba_incidents_free(SbaIncidentMachine *machine);

/* Names in smartbox.incident_status, smartbox.incident_event and incidents. */
extern const char *sba_incident_status_name(SbaIncidentStatus status);
extern const char *sba_incident_action_name(SbaIncidentAction action);
extern const char *sba_resolution_reason_name(SbaResolutionReason reason);

static inline void
sba_signal_set_add(SbaSignalSet *set, int signal)
{
	set->bits[signal / 64] |= UINT64_C(1) << signal % 64;
}

static inline bool
sba_signal_set_has(const SbaSignalSet *set, int signal)
{
	return (set->bits[signal / 64] >> signal % 64 & 1) != 0;
}

#endif							/* SBA_CORE_INCIDENTS_H */
