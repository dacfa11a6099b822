-- Asks about another certificate with each request; prints what it measured as JSON.
-- Arguments: the Authorization header, the body, the first certificate's number, and how many there are.
local number, certificates

function init(arguments)
    wrk.method = "POST"
    wrk.headers["Authorization"] = arguments[1]
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = arguments[2]
    number = tonumber(arguments[3])
    certificates = tonumber(arguments[4])
end

function request()
    number = number % certificates + 1
    local first = number * number % 2147483647 * 1103515 % 2147483647
    return wrk.format(nil, string.format("/%08x%032x", first, number))
end

function done(summary, latency)
    io.write(string.format(
        'RESULT {"requests": %d, "seconds": %f, "p99_ms": %f, "errors": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(99) / 1000,
        summary.errors.connect + summary.errors.read + summary.errors.write
            + summary.errors.status + summary.errors.timeout))
end
