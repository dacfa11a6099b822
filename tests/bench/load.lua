-- Asks about another certificate with each request; prints what it measured as JSON.
-- Arguments: the path's beginning, the Authorization header, the first certificate's number.
local prefix, number

function init(arguments)
    prefix = arguments[1]
    wrk.method = "POST"
    wrk.headers["Authorization"] = arguments[2]
    wrk.headers["Content-Type"] = "application/json"
    wrk.body = '{"insights": {"properties": ["confirmed_owner", "domain"]}}'
    number = tonumber(arguments[3])
end

function request()
    number = number + 1
    return wrk.format(nil, string.format("%s%040x", prefix, number))
end

function done(summary, latency)
    io.write(string.format(
        'RESULT {"requests": %d, "seconds": %f, "p99_ms": %f, "errors": %d}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(99) / 1000,
        summary.errors.connect + summary.errors.read + summary.errors.write
            + summary.errors.status + summary.errors.timeout))
end
