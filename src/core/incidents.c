/*
 * incidents.c
 *	  The state machine of incidents of one service, in memory.
 *
 * The functions have the names and the order of sql/38-incident-moves.sql and
 * sql/40-state-machine.sql.
 */
#include "core/incidents.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define WORDS (SBA_MAX_SIGNALS / 64)
#define FIRST_CAPACITY 64

/* One cycle under way. */
typedef struct Cycle
{
	int64_t		at_us;
	SbaSignalSet names;			/* of its anomalies */
	SbaSignalSet moved;			/* by name: incidents that it has dealt with */
} Cycle;

const char *
sba_incident_status_name(SbaIncidentStatus status)
{
	static const char *const names[] = {"SUSPECTED", "OPEN", "RECOVERING", "CLOSED"};

	return names[status];
}

const char *
sba_incident_action_name(SbaIncidentAction action)
{
	static const char *const names[] = {"CREATE", "CONFIRM", "CONTINUE", "REOPEN"};

	return names[action];
}

const char *
sba_resolution_reason_name(SbaResolutionReason reason)
{
	static const char *const names[] = {"", "resolved", "suspected_expired", "auto_stale"};

	return names[reason];
}

static bool
sets_meet(const SbaSignalSet *a, const SbaSignalSet *b)
{
	int			w;

	for (w = 0; w < WORDS; w++)
		if ((a->bits[w] & b->bits[w]) != 0)
			return true;
	return false;
}

static void
add_signals(SbaIncident *incident, const SbaSeenAnomaly *anomaly)
{
	int			w;

	for (w = 0; w < WORDS; w++)
		incident->signals.bits[w] |= anomaly->signals.bits[w];
	sba_signal_set_add(&incident->signals, anomaly->name);
}

void
sba_incidents_init(SbaIncidentMachine *machine, const SbaIncidentRules *rules,
				   SbaIdentifyIncident identify, void *context)
{
	memset(machine, 0, sizeof(*machine));
	machine->rules = *rules;
	machine->identify = identify;
	machine->context = context;
}

void
sba_incidents_free(SbaIncidentMachine *machine)
{
	free(machine->incidents);
	machine->incidents = NULL;
	machine->n_incidents = machine->capacity = 0;
}

static bool
is_before(const SbaIncident *a, const SbaIncident *b)
{
	if (a->first_seen_us != b->first_seen_us)
		return a->first_seen_us < b->first_seen_us;
	return strcmp(a->id, b->id) < 0;
}

static void
activate(SbaIncidentMachine *machine, size_t number)
{
	int			i = machine->n_active++;

	for (; i > 0 && is_before(&machine->incidents[number], &machine->incidents[machine->active[i - 1]]); i--)
		machine->active[i] = machine->active[i - 1];
	machine->active[i] = number;
}

static void
deactivate(SbaIncidentMachine *machine, size_t number)
{
	int			i = 0;

	while (machine->active[i] != number)
		i++;
	machine->n_active--;
	memmove(machine->active + i, machine->active + i + 1, sizeof(size_t) * (size_t) (machine->n_active - i));
}

static SbaStatus
create_incident(SbaIncidentMachine *machine, const SbaSeenAnomaly *anomaly, int64_t at_us,
				SbaIncidentMove *move, SbaError *error)
{
	SbaIncident *incident;

	if (machine->n_incidents == machine->capacity)
	{
		size_t		capacity = machine->capacity == 0 ? FIRST_CAPACITY : 2 * machine->capacity;
		SbaIncident *larger = realloc(machine->incidents, capacity * sizeof(SbaIncident));

		if (larger == NULL)
			return sba_fail(error, SBA_OUT_OF_MEMORY, "out of memory for %zu incidents", capacity);
		machine->incidents = larger;
		machine->capacity = capacity;
	}
	move->incident = machine->n_incidents++;
	move->action = SBA_INCIDENT_CREATE;
	incident = &machine->incidents[move->incident];
	memset(incident, 0, sizeof(*incident));
	incident->name = anomaly->name;
	incident->severity = anomaly->severity;
	incident->score = anomaly->score;
	incident->confidence = anomaly->confidence;
	incident->first_seen_us = incident->last_seen_us = incident->last_evaluated_us = at_us;
	incident->occurrence_count = incident->consecutive_detections = 1;
	incident->held_us = machine->held_us;
	add_signals(incident, anomaly);
	machine->identify(machine->context, anomaly->name, at_us, incident->id);
	if (machine->rules.confirmation_cycles <= 1)
	{
		incident->status = SBA_INCIDENT_OPEN;
		incident->is_confirmed = true;
		incident->confirmed_us = at_us;
	}
	activate(machine, move->incident);
	return SBA_OK;
}

static SbaIncidentAction
next_event(const SbaIncidentMachine *machine, const SbaIncident *incident)
{
	if (incident->status == SBA_INCIDENT_CLOSED)
		return SBA_INCIDENT_REOPEN;
	if (incident->status == SBA_INCIDENT_SUSPECTED &&
		incident->consecutive_detections + 1 >= machine->rules.confirmation_cycles)
		return SBA_INCIDENT_CONFIRM;
	return SBA_INCIDENT_CONTINUE;
}

static void
continue_incident(SbaIncidentMachine *machine, size_t number, const SbaSeenAnomaly *anomaly,
				  int64_t at_us, SbaIncidentMove *move)
{
	SbaIncident *incident = &machine->incidents[number];

	move->incident = number;
	move->action = next_event(machine, incident);
	if (move->action == SBA_INCIDENT_REOPEN)
	{
		incident->consecutive_detections = 0;
		machine->closed[incident->name] = 0;
		activate(machine, number);
	}
	if (move->action == SBA_INCIDENT_CONFIRM)
	{
		incident->is_confirmed = true;
		incident->confirmed_us = at_us;
	}
	if (move->action != SBA_INCIDENT_CONTINUE || incident->status == SBA_INCIDENT_RECOVERING)
		incident->status = SBA_INCIDENT_OPEN;
	incident->reason = SBA_NOT_RESOLVED;
	if (anomaly->severity > incident->severity)
		incident->severity = anomaly->severity;
	incident->score = fmin(incident->score, anomaly->score);
	if (!isnan(anomaly->confidence))
		incident->confidence = anomaly->confidence;
	incident->last_seen_us = incident->last_evaluated_us = at_us;
	incident->occurrence_count++;
	incident->consecutive_detections++;
	incident->missed_cycles = 0;
	incident->held_us = machine->held_us;
	add_signals(incident, anomaly);
}

static void
end_incident(SbaIncidentMachine *machine, size_t number, SbaResolutionReason reason, int64_t at_us)
{
	SbaIncident *incident = &machine->incidents[number];

	incident->status = SBA_INCIDENT_CLOSED;
	incident->reason = reason;
	incident->resolved_us = at_us;
	deactivate(machine, number);
	if (incident->is_confirmed && reason != SBA_AUTO_STALE)
		machine->closed[incident->name] = number + 1;
}

static void
miss_incident(SbaIncidentMachine *machine, size_t number, int64_t at_us)
{
	SbaIncident *incident = &machine->incidents[number];

	incident->last_evaluated_us = at_us;
	incident->consecutive_detections = 0;
	incident->missed_cycles++;
	if (incident->missed_cycles >= machine->rules.resolution_grace_cycles)
		end_incident(machine, number,
					 incident->status == SBA_INCIDENT_SUSPECTED ? SBA_SUSPECTED_EXPIRED : SBA_RESOLVED, at_us);
	else if (incident->status == SBA_INCIDENT_OPEN)
		incident->status = SBA_INCIDENT_RECOVERING;
}

/*
 * The incident that an anomaly belongs to: the active one of the same name,
 * else the oldest one that shares a signal with it and whose own name is not
 * in this cycle; plus 1, or 0 when there is none.
 */
static size_t
find_active_incident(const SbaIncidentMachine *machine, const Cycle *cycle, const SbaSeenAnomaly *anomaly)
{
	SbaSignalSet signals = anomaly->signals;
	size_t		found = 0;
	int			i;

	sba_signal_set_add(&signals, anomaly->name);
	for (i = 0; i < machine->n_active; i++)
	{
		const SbaIncident *incident = &machine->incidents[machine->active[i]];

		if (sba_signal_set_has(&cycle->moved, incident->name))
			continue;
		if (incident->name == anomaly->name)
			return machine->active[i] + 1;
		if (found == 0 && !sba_signal_set_has(&cycle->names, incident->name) &&
			sets_meet(&incident->signals, &signals))
			found = machine->active[i] + 1;
	}
	return found;
}

/* The same for one that was closed less than the separation ago. */
static size_t
find_reopenable_incident(const SbaIncidentMachine *machine, const SbaSeenAnomaly *anomaly, int64_t at_us)
{
	size_t		found = machine->closed[anomaly->name];

	if (found != 0 && machine->incidents[found - 1].resolved_us > at_us - machine->rules.separation_us)
		return found;
	return 0;
}

static bool
is_stale(const SbaIncidentMachine *machine, const SbaIncident *incident, int64_t at_us)
{
	int64_t		held_us = machine->held_us - incident->held_us;

	return incident->last_seen_us + held_us < at_us - machine->rules.separation_us;
}

static SbaStatus
process_anomaly(SbaIncidentMachine *machine, Cycle *cycle, const SbaSeenAnomaly *anomaly,
				SbaIncidentMove *move, SbaError *error)
{
	size_t		found = find_active_incident(machine, cycle, anomaly);
	SbaStatus	status = SBA_OK;

	if (found != 0 && is_stale(machine, &machine->incidents[found - 1], cycle->at_us))
	{
		sba_signal_set_add(&cycle->moved, machine->incidents[found - 1].name);
		end_incident(machine, found - 1, SBA_AUTO_STALE, cycle->at_us);
		found = 0;
	}
	else if (found == 0)
		found = find_reopenable_incident(machine, anomaly, cycle->at_us);

	if (found == 0)
		status = create_incident(machine, anomaly, cycle->at_us, move, error);
	else
		continue_incident(machine, found - 1, anomaly, cycle->at_us, move);
	if (status == SBA_OK)
		sba_signal_set_add(&cycle->moved, machine->incidents[move->incident].name);
	return status;
}

SbaStatus
sba_incidents_advance(SbaIncidentMachine *machine, int64_t at_us, bool no_data,
					  const SbaSeenAnomaly *anomalies, int n_anomalies,
					  SbaIncidentMove *moves, SbaError *error)
{
	Cycle		cycle = {.at_us = at_us};
	SbaStatus	status = SBA_OK;
	int			i;
	int			j;

	for (i = 0; i < n_anomalies; i++)
		sba_signal_set_add(&cycle.names, anomalies[i].name);
	for (i = 0; i < n_anomalies && status == SBA_OK; i++)
	{
		/* the same name twice is one fault */
		for (j = 0; j < i && anomalies[j].name != anomalies[i].name; j++)
			continue;
		if (j < i)
			moves[i] = moves[j];
		else
			status = process_anomaly(machine, &cycle, &anomalies[i], &moves[i], error);
	}

	/* without data nothing can be said about the other incidents */
	for (i = machine->n_active - 1; i >= 0 && !no_data; i--)
		if (!sba_signal_set_has(&cycle.moved, machine->incidents[machine->active[i]].name))
			miss_incident(machine, machine->active[i], at_us);

	if (no_data && machine->has_cycle)
		machine->held_us += at_us - machine->last_cycle_us;
	machine->has_cycle = true;
	machine->last_cycle_us = at_us;

	/* what is seen in a cycle without data is held from the next one on */
	for (i = 0; i < machine->n_active && no_data; i++)
		if (machine->incidents[machine->active[i]].last_seen_us == at_us)
			machine->incidents[machine->active[i]].held_us = machine->held_us;
	return status;
}
