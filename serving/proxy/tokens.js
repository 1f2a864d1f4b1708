// Whose token is it? A line of /secrets/tokens: SHA-256 of the token, name of the owner, first day it no longer holds.
// The file is read at each request, so that a token added or removed counts at once.
import crypto from 'crypto';
import fs from 'fs';

function owner(r) {
    const given = /^Bearer ([^ ]+)$/i.exec(r.headersIn.Authorization || '');
    if (!given) {
        return '';
    }
    const hash = crypto.createHash('sha256').update(given[1]).digest('hex');
    const lines = fs.readFileSync(r.variables.gm_secrets + '/tokens', 'utf8').split('\n');
    for (let i = 0; i < lines.length; i++) {
        const fields = lines[i].trim().split(/\s+/);
        // A day that cannot be read is no date, and nothing is before it.
        if (fields.length === 3 && fields[0] === hash && new Date() < new Date(fields[2])) {
            return fields[1];
        }
    }
    return '';
}

export default { owner };
