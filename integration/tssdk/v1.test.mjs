import Anthropic from '@anthropic-ai/sdk';

import { define } from './cases.mjs';

define('1', Anthropic, '1.12.0');
