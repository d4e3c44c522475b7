import {serve} from '@hono/node-server';
import {Hono} from 'hono';

const app = new Hono();
const handler = (name) => (context) => context.text(name, 200, {'X-Handler': name});
app.all('/healthz', handler('health'));
app.all('/v1/agents/*', handler('agents'));
app.all('/v1/chat:complete', handler('chat'));
app.all('/users/@me', handler('me'));
app.all('/admin/*', handler('admin'));
app.all('*', handler('other'));
serve({fetch: app.fetch, port: 0, hostname: '127.0.0.1'}, (info) => console.log(`listening on 127.0.0.1:${info.port}`));
