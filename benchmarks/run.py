"""All speed benchmarks, one after another."""

import latency
import loading
import rows
import step_time

if __name__ == "__main__":
    step_time.main()
    latency.main()
    loading.main()
    rows.main()
