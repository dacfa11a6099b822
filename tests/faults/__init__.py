"""What fails, what is promised then, and which test holds it.

Whatever fails, no call is told an owner unless the answer is true and on record. What was acknowledged
stays so. Calls that can't be answered get 503 at once, and the same process answers again afterwards.

| what fails                                      | test                                              |
|-------------------------------------------------|---------------------------------------------------|
| the database: down, stopped, read-only, out of  | test_database                                     |
| connections, its disk full, locked, restarted   |                                                   |
| the database, killed again and again under load | test_kills; `make faults` kills it more often     |
| clocks that are set, on either side             | test_clock                                        |
| too many calls; no file descriptors; no memory  | test_process                                      |
| SIGTERM under load; the main process killed     | test_process                                      |
| connections to the database that fall silent    | tests/processes                                   |
| a server process or a worker, killed            | tests/processes                                   |
| the vendor                                      | tests/insights/test_upstream, test_vendor_behind  |
| DNS                                             | tests/ownership/test_dns_txt, test_jobs           |
| the mail server                                 | tests/mail/test_mails                             |
| processes and connections, while others change  | tests/freshness                                   |
| the primary of several database servers         | tests/growing/test_failover                       |
"""
