"""All speed benchmarks, one after another."""

import latency
import rows
import step_time

if __name__ == "__main__":
    step_time.main()
    latency.main()
    rows.main()
