/*
 * validation.h
 *	  What may be believed of a sample: its values, their repetition, and the
 *	  time that a source gives for them.
 *
 * Collection, training and detection ask here, so that what one of them
 * refuses the others do not use.
 */
#ifndef SBA_CORE_VALIDATION_H
#define SBA_CORE_VALIDATION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "core/metric.h"

/* Samples in a row that say the same before they are no data any more. */
#define SBA_FLAT_LINE_SAMPLES 3

/* Samples before such a run that say whether the service moves otherwise. */
#define SBA_FLAT_LINE_HISTORY 288

/* Bytes that the text about a value takes, with its ending zero. */
#define SBA_FAULT_TEXT_SIZE 192

typedef enum SbaValueFault
{
	SBA_VALUE_GOOD,
	SBA_VALUE_NOT_A_NUMBER,
	SBA_VALUE_INFINITE,
	SBA_VALUE_BELOW,
	SBA_VALUE_ABOVE
} SbaValueFault;

typedef enum SbaTimeFault
{
	SBA_TIME_GOOD,
	SBA_TIME_EARLY,
	SBA_TIME_LATE
} SbaTimeFault;

/* What is wrong with a value.  Any fault makes it unknown. */
extern SbaValueFault sba_value_fault(const SbaMetric *metric, double value);

/* A sentence about a faulty value, of at most SBA_FAULT_TEXT_SIZE bytes. */
extern void sba_describe_value_fault(const SbaMetric *metric, double value,
									 SbaValueFault fault, char *text);

/*
 * Find the slot of a regular grid of times that a time is nearest to.  *slot
 * is set when the time is good, which it is not outside the grid.
 */
extern SbaTimeFault sba_slot_of_time(double first_time, double step, int n_slots,
									 double time, int *slot);

/*
 * Whether a sample only repeats an earlier one: the same metrics are known,
 * at least two of them are not zero, and all are equal to the last bit.
 * Unknown values are NaN.
 */
extern bool sba_is_repeat(const double *values, const double *earlier, int n_metrics);

/*
 * Whether samples, of which only the last SBA_FLAT_LINE_HISTORY are looked at,
 * are of a service whose metrics move: at most a tenth of them repeat the one
 * before.  values is [n_rows][n_metrics].
 */
extern bool sba_values_move(const double *values, size_t n_rows, int n_metrics);

/*
 * Make the repeats in flat lines unknown: of SBA_FLAT_LINE_SAMPLES or more
 * equal samples in a row, of a service that moved before, the first one stays.
 * Returns how many samples were made unknown.
 */
extern size_t sba_forget_flat_lines(double *values, size_t n_rows, int n_metrics);

#endif							/* SBA_CORE_VALIDATION_H */
