"""The fault matrix: what fails, what is promised, and which test shows it, with real processes.

Whatever fails, no call is told anything about an owner that isn't so. It gets an error that holds none
of the values (`check_error`, `load.check_names_no_owner`), and the process goes on by itself.

| what fails | what is promised | test |
|---|---|---|
| the database is down | 503 at once, ready again by itself | `test_database`: `down`, "is_shut_down" |
| it hangs, and closes nothing | the same, after the first calls | `test_database`: `stopped` |
| it is slow: a lock is held | 503 within the deadline | `test_database`: "wait_for_a_lock" |
| its connections fall silent | the same, and new ones | `processes/test_worker`: "fall_silent" |
| it is read-only | 503 at once, and changes are refused | `test_database`: `read_only` |
| others have all its connections | 503 at once | `test_database`: `out_of_connections` |
| its disk is full for a table | 503 at once | `test_database`: `table_full` |
| its disk is full for its log | 503 at once, and it starts again | `test_database`: `disk_full` |
| it is killed, ten times | all that was acknowledged is there | `test_kills`, `make faults` |
| it contradicts nothing meanwhile | nor does any other process | `freshness` |
| its clock is set | no call fails, all can be ended | `test_clock` |
| the vendor is down, slow, or raves | 502 to 504, what is known is told | `insights/test_upstream` |
| it is back | the next probe finds it | `insights/test_vendor_behind`: "breaker" |
| DNS is down | nothing is verified or ends | `ownership/test_dns_txt`, `test_claims`: "failing_look" |
| SMTP is down | emails wait, and the invitation says so | `mail/test_mails`: "dead_server" |
| calls beyond what a process takes | 503 at once, probes are answered | `test_process`: "beyond" |
| file descriptors are short | who is connected is answered | `test_process`: "descriptors" |
| memory is short | an error, or a new process | `test_process`: "memory" |
| SIGTERM under load | each accepted call has its whole answer | `test_process`: "told_to_stop" |
| SIGTERM while callers and jobs hang | all has ended within 10 seconds | `test_process`: "ten_seconds" |
| `run` is killed | its forks end, the next takes over | `test_process`: "takes_over" |
| a process that serves is killed | it is replaced | `processes/test_processes`: "replaced" |
| a worker is killed | its jobs are done by another | `processes/test_worker`, `batches/test_kills` |

“At once” is within 250 ms (`stage.AT_ONCE`), as a client sees it: the median of 24 calls, one after the
other, because others use the machine, too. “503” comes with `Retry-After`.

A disk without room needs no root here. For a table, the file of its free space map is a link to
`/dev/full`: the kernel says ENOSPC, and PostgreSQL can't extend the table. For the log, the limit on the
size of files (RLIMIT_FSIZE) of the server and of what starts it is zero: the server panics and can't
start until the limit is lifted.

Clocks are set by libfaketime, for the database alone. It doesn't get along with the threads and forks
of the service: processes ended or stood still. The service's own clock dates ids and lines of its log;
deadlines go by the monotonic one.
"""
