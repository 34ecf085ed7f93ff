"""The figures of forest_bench for scikit-learn, in the same form."""
import gc
import pickle
import sys
import time

import numpy
from sklearn.ensemble import IsolationForest


def median_seconds(run, budget=1.0, least=3, most=21):
    run()
    times = []
    begin = time.perf_counter()
    while len(times) < least or (len(times) < most and time.perf_counter() - begin < budget):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return sorted(times)[len(times) // 2]


def main():
    n_rows, n_features = int(sys.argv[1]), int(sys.argv[2])
    rows = numpy.random.default_rng(1).normal(size=(n_rows, n_features))
    few = 1 if n_rows > 50000 else 3

    def fit():
        return IsolationForest(n_estimators=100, max_samples=min(256, n_rows), random_state=1).fit(rows)

    gc.disable()
    print("fit\tms\t%.3f" % (1e3 * median_seconds(fit, least=few)))
    forest = fit()
    stored = pickle.dumps(forest)
    print("open\tus\t%.1f" % (1e6 * median_seconds(lambda: pickle.loads(stored))))
    print("score\tms\t%.3f" % (1e3 * median_seconds(lambda: forest.score_samples(rows), least=few)))
    print("one row\tus\t%.3f" % (1e6 * median_seconds(lambda: forest.score_samples(rows[:1]))))
    print("bytes\tB\t%d" % len(stored))


main()
